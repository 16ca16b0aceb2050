"""Weights & Biases in an arcface_torch checkout: its own script opens the run; here it gets no key to write down.

The script writes every setting into training.log and into the W&B run, and hands the key to `wandb.login`, which keeps
it in ~/.netrc. So the key goes by WANDB_API_KEY, and the setting is None.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.run import Run
from ..training.trackers import Patient, check_packages, known_ids, note_ids
from ..training.wandb_log import hand_over_key

LOGGER = logging.getLogger(__name__)
STEP = "Process/Step"  # the script's name for it
OF_THE_CHECKOUT = ("wandb_entity", "wandb_project", "suffix_run_name")  # what base.py may say where the recipe does not


def wandb_settings(run: Run, base: Mapping[str, Any], resumes: bool) -> dict[str, Any]:
    """The checkout's settings of W&B, for its script; what it is to get by the environment is put there.

    Args:
        run: the resolved recipe.
        base: the checkout's own defaults, `configs/base.py`.
        resumes: whether the run goes on from a checkpoint.

    Raises:
        ConfigError: the package is missing.
    """
    if not run.using_wandb:
        return {"wandb_key": None}
    check_packages(run)
    hand_over_key(run.wandb_key, base.get("wandb_key"))
    continued = known_ids(run.output).get("wandb") if resumes and run.wandb_resume else None
    os.environ.setdefault("WANDB_DIR", run.output)
    os.environ.setdefault("WANDB_DISABLE_CODE", "true")  # the recipe and base.py, with a key in them, are code
    if continued:
        os.environ.setdefault("WANDB_RUN_ID", continued)
    settings = {
        "wandb_key": None,
        "wandb_entity": None if run.wandb_entity == Run.wandb_entity else run.wandb_entity,
        "wandb_resume": "allow" if continued else None,
        "wandb_log_all": False,  # one run of W&B has one writer
    }
    settings |= {key: base[key] for key in OF_THE_CHECKOUT if key in base and key not in run.set_keys}
    if settings.get("wandb_entity") == Run.wandb_entity:
        settings["wandb_entity"] = None
    Path(run.output).mkdir(parents=True, exist_ok=True)
    return settings


class CheckoutWandb:
    """The W&B run that the checkout's script has opened; it also closes it.

    W&B counts what the script logs, so steps of training are a number beside the others, as in the script's own lines.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        run.define_metric("*", step_metric=STEP)  # its charts over training steps, also those of the script

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers of a global step."""
        self._run.log({**values, STEP: step})

    def save(self, path: Path) -> None:
        """The script does."""

    def close(self, error: BaseException | None) -> None:
        """The package does, when the process ends."""


def opened_by_the_script(run: Run) -> list[Patient]:
    """The W&B run to log the terms of the loss to, noted in tracking.json; none where the recipe asks for none."""
    if not run.using_wandb:
        return []
    found = getattr(sys.modules.get("wandb"), "run", None)
    if found is None:
        LOGGER.warning("config.using_wandb is True, but the checkout opened no run at W&B: its console output says why")
        return []
    note_ids(run.output, {"wandb": found.id})
    return [Patient(CheckoutWandb(found), "W&B")]

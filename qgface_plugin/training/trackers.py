"""Trackers: services that a run's numbers go to beside its own files, Weights & Biases and MLflow.

Rank 0 alone has them. A key comes from the environment, or goes there from the recipe, and into no file.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..config.run import Run
from ..utils.errors import ConfigError, DataError
from ..utils.files import write_json
from ..utils.text import read_json

LOGGER = logging.getLogger(__name__)
TRACKING_FILE = "tracking.json"  # in the output folder: which runs of these services the numbers went to


class Tracker(Protocol):
    """What a recorder needs of a service; `WandbLog` and `MLflowLog` are such."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers of a global step, named as in TensorBoard."""

    def save(self, path: Path) -> None:
        """Take the weights that a run has just saved, if the recipe asks for it (`config.save_artifacts`)."""

    def close(self, error: BaseException | None) -> None:
        """End, with the error that ended the run, None for none."""


class Patient:
    """A service whose failures are warnings: what it should have got is in the run's own files, and training goes on.

    Args:
        tracker: the service.
        name: what warnings call it.
    """

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker, self._name, self._said = tracker, name, False

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        with self._failures(f"the numbers of step {step}"):
            self._tracker.log(values, step)

    def save(self, path: Path) -> None:
        """See `Tracker`."""
        with self._failures(str(path)):
            self._tracker.save(path)

    def close(self, error: BaseException | None) -> None:
        """See `Tracker`."""
        self._said = False  # the last failure is said too
        with self._failures("the end of the run"):
            self._tracker.close(error)

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._said:
                LOGGER.warning("%s has not got %s: %s: %s", self._name, what, type(error).__name__, error)
            self._said = True


def check_packages(run: Run) -> None:
    """Refuse a recipe that asks for a service whose package is not installed.

    Raises:
        ConfigError: naming the key and the package.
    """
    for asked, package in (
        ("config.using_wandb = True", "wandb" if run.using_wandb else ""),
        (f"config.mlflow_experiment = {run.mlflow_experiment!r}", "mlflow" if run.mlflow_experiment else ""),
    ):
        found = importlib.util.find_spec(package) if package else None
        if package and (found is None or found.origin is None):  # `wandb` is also a folder that its runs leave
            raise ConfigError(f"{asked}, but the package {package} is not installed: pip install {package}")


def open_trackers(run: Run, start_step: int) -> list[Tracker]:
    """The services that a recipe asks for, opened; on rank 0.

    Args:
        run: the resolved recipe.
        start_step: global steps that are done already; 0 for a run from the start.

    Raises:
        ConfigError: a service that cannot be reached, or does not let this run in.
    """
    check_packages(run)
    before, trackers, ids = known_ids(run.output), list[Tracker](), {}
    if run.using_wandb:
        from .wandb_log import WandbLog  # both import nothing of theirs before they are opened

        continued = before.get("wandb") if start_step and run.wandb_resume else None
        wandb_log = WandbLog(run, continued)
        trackers.append(Patient(wandb_log, "W&B"))
        ids["wandb"] = wandb_log.id
    if run.mlflow_experiment:
        from .mlflow_log import MLflowLog

        mlflow_log = MLflowLog(run, before.get("mlflow") if start_step else None)
        trackers.append(Patient(mlflow_log, "MLflow"))
        ids["mlflow"] = mlflow_log.id
    if ids:
        note_ids(run.output, ids)
    return trackers


def known_ids(folder: str | Path) -> dict[str, str]:
    """Service -> id of the run there that `folder` belongs to, as `note_ids` wrote it; empty where it did not."""
    try:
        found = read_json(Path(folder) / TRACKING_FILE, "list of tracked runs")
    except DataError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {service: name for service, name in found.items() if isinstance(name, str) and name}


def note_ids(folder: str | Path, ids: Mapping[str, str]) -> None:
    """Write down which runs of which services the numbers of `folder` go to."""
    write_json(Path(folder) / TRACKING_FILE, {**known_ids(folder), **ids})

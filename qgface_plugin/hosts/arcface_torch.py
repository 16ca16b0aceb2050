"""Training in an arcface_torch checkout: its own train_v2.py, not one line of it changed, with QGFace at its seams.

The working directory stays the user's: relative paths in a recipe (data, output) mean what they mean with the built-in
host. The checkout is found by sys.path, where its modules are looked for first.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import distributed

from ..config.recipe import load_recipe
from ..config.run import Run
from ..utils.errors import ConfigError
from ..utils.logs import EarlyLog
from . import compat, seams
from .guest import Guest

LOGGER = logging.getLogger(__name__)
SCRIPT = "train_v2.py"
PARTS = (SCRIPT, "partial_fc_v2.py", "losses.py", "dataset.py", "lr_scheduler.py", "backbones", "utils", "configs")
_running: set[Path] = set()  # checkouts whose train_v2.py `train` is running in this process


def missing_parts(folder: Path) -> list[str]:
    """What an arcface_torch checkout has and this folder has not; empty for a checkout."""
    return [part for part in PARTS if not (folder / part).exists()]


def find_checkout(host: str | None = None, environ: Mapping[str, str] = os.environ) -> tuple[Path, str] | None:
    """The checkout to train in and what named it: config.host, else ARCFACE_TORCH, else the working directory.

    None when nothing names one. Raises ConfigError for a named folder that is no checkout.
    """
    for named, by in ((host, "config.host"), (environ.get("ARCFACE_TORCH"), "ARCFACE_TORCH")):
        if not named:
            continue
        folder = Path(named)
        missing = missing_parts(folder)
        if missing:
            inner = folder / "recognition" / "arcface_torch"
            advice = f"did you mean {inner}?" if not missing_parts(inner) else "name the folder of its train_v2.py"
            raise ConfigError(
                f"{by} names {named}, which is no arcface_torch checkout ({missing[0]} is not there): {advice}"
            )
        return folder.resolve(), by
    here = Path.cwd()
    return None if missing_parts(here) else (here, "the working directory")


def is_own_config(argument: str) -> bool:
    """Whether a command line names one of the checkout's own configs, as its users write them: configs/ms1mv3_r50."""
    return argument.startswith("configs/")


def train(checkout: Path, argument: str, run: Run | None, log: EarlyLog) -> None:
    """Run the checkout's train_v2.py on `argument`: a recipe, loaded as `run`; or with None a config of its own, which
    trains what it says, without QGFace.

    Raises ConfigError for a seam that is gone, ConfigError, DataError or CheckpointError for what does not fit the run,
    TrainingError when its loss is not finite.
    """
    with _as_script(checkout, argument):
        prepare(checkout, argument, run, log)
        _running.add(checkout)
        try:
            runpy.run_path(str(checkout / SCRIPT), run_name="__main__")
        finally:
            _running.discard(checkout)
            if distributed.is_initialized():
                distributed.destroy_process_group()


def prepare(checkout: Path, argument: str, run: Run | None, log: EarlyLog) -> None:
    """What comes before the checkout's first import: repairs, then, for a recipe, QGFace at the seams."""
    compat.apply(checkout)
    if run is not None:
        seams.install(checkout, Guest(run, log))
        return
    config = checkout / "configs" / f"{Path(argument).stem}.py"
    if not config.is_file():
        raise ConfigError(f"{checkout} has no config {argument}: {config} is not there")
    LOGGER.info("%s is a config of the checkout: it trains what it says, without QGFace", argument)


def autoload() -> None:
    """Prepare the train_v2.py that is running and whose first line this is (`python -m qgface_plugin attach`).

    Nothing happens without an argument, nor when it is `train` that runs the file. Raises ConfigError when the
    program is no train_v2.py of a checkout.
    """
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "-")
    checkout = script.resolve().parent
    if script.name != SCRIPT or missing_parts(checkout):
        raise ConfigError(
            f"qgface_plugin.hosts.autoload is for the train_v2.py of an arcface_torch checkout, not {script}"
        )
    argument = next((given for given in sys.argv[1:] if not given.startswith("-")), None)
    if argument is None or checkout in _running:
        return
    log = EarlyLog()
    run = None if is_own_config(argument) else load_recipe(argument)
    if run is not None and run.host and Path(run.host).resolve() != checkout:
        raise ConfigError(f"config.host names {run.host}, but this is the train_v2.py of {checkout}: leave it out")
    prepare(checkout, argument, run, log)


@contextmanager
def _as_script(checkout: Path, argument: str) -> Iterator[None]:
    """The command line and import path of `python <checkout>/train_v2.py <argument>`; afterwards both are as before,
    and the checkout's modules are forgotten."""
    argv, path, known = list(sys.argv), list(sys.path), set(sys.modules)
    sys.argv[:] = [str(checkout / SCRIPT), argument]
    sys.path.insert(0, str(checkout))
    try:
        yield
    finally:
        sys.argv[:], sys.path[:] = argv, path
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and checkout in Path(file).resolve().parents:
                del sys.modules[name]

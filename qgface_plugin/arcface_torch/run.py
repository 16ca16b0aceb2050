"""Training in an arcface_torch checkout: its own train_v2.py, not one line of it changed, with QGFace at its seams.

The working directory stays the user's: relative paths in a recipe (data, output) mean what they mean with the built-in
loop. The checkout is found by sys.path, where its modules are looked for first.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import distributed

from ..config.recipe import load_recipe
from ..config.run import Run
from ..training.header import next_command
from ..training.output_folder import own_folder
from ..utils.distributed import fellow_ranks
from ..utils.errors import ConfigError
from ..utils.logs import EarlyLog, early_log
from . import compat, seams
from .checkout import SCRIPT, checkout_of, is_own_config, missing_parts
from .replacements import Replacements
from .saving import checked_saves

LOGGER = logging.getLogger(__name__)
_running: set[Path] = set()  # checkouts whose train_v2.py `train` is running in this process


def train(
    checkout: Path, argument: str, run: Run | None, log: EarlyLog, arguments: Sequence[str] | None = None
) -> None:
    """Run a checkout's train_v2.py, in an output folder of its own.

    Args:
        checkout: its folder.
        argument: of the command line: a recipe, or a config of the checkout.
        run: the recipe, loaded; None for a config of the checkout, which trains what it says, without QGFace.
        log: the lines so far.
        arguments: the whole command line, where it has more than `argument`.

    Raises:
        ConfigError: A seam is gone, or something does not fit the run; so do DataError and CheckpointError.
        TrainingError: Too many losses in a row were not finite.
    """
    with _as_script(checkout, arguments or [argument]), ExitStack() as stack:
        if run is not None:
            stack.enter_context(own_folder(run.output))
        parts = prepare(checkout, argument, run, log)
        if parts is not None:
            stack.enter_context(checked_saves(parts))
            stack.enter_context(_without_settings(checkout))
        _running.add(checkout)
        try:
            runpy.run_path(str(checkout / SCRIPT), run_name="__main__")
            if parts is not None and os.environ.get("RANK", "0") == "0":
                model = Path(parts.run.output) / "model.pt"
                LOGGER.info("the encoder is %s; next: %s", model, next_command(model))
        finally:
            _running.discard(checkout)
            if distributed.is_initialized():
                distributed.destroy_process_group()


def prepare(checkout: Path, argument: str, run: Run | None, log: EarlyLog) -> Replacements | None:
    """What comes before the checkout's first import: repairs, then, for a recipe, QGFace's parts at the seams."""
    compat.apply(checkout)
    if run is not None:
        parts = Replacements(run, log)
        seams.install(checkout, parts)
        return parts
    config = checkout / "configs" / f"{Path(argument).stem}.py"
    if not config.is_file():
        raise ConfigError(f"{checkout} has no config {argument}: {config} is not there")
    _refuse_a_recipe(config)
    LOGGER.info("%s is a config of the checkout: it trains what it says, without QGFace", argument)
    return None


def _refuse_a_recipe(config: Path) -> None:
    """A recipe that lies among the checkout's own configs would be trained without QGFace, which it asks for.

    Raises:
        ConfigError: it is one, or it fails.
    """
    try:
        settings = importlib.import_module(f"configs.{config.stem}").config
    except Exception as error:
        raise ConfigError(f"{config} cannot be imported: {type(error).__name__}: {error}") from error
    if "qgface" in settings:
        raise ConfigError(
            f"{config} sets config.qgface, but a config of the checkout trains what it says, without QGFace: move the "
            f"file out of {config.parent}, for instance to recipes/{config.name}, and name it there"
        )


def autoload() -> bool:
    """Run the train_v2.py that is running and whose first line this is (`python -m qgface_plugin attach`), as `train`.

    The whole file is run once more, from here: with a folder of its own and ranks that tell each other why they end,
    which need a beginning and an end. Nothing happens without an argument, nor when it is `train` that runs the file.

    Returns:
        Whether it has run, so that nothing is left to do for the file whose first line this is.

    Raises:
        ConfigError: The program is no train_v2.py of a checkout, or what it is to run does not fit; and all that
            `train` raises.
    """
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "-")
    checkout = script.resolve().parent
    if script.name != SCRIPT or missing_parts(checkout):
        raise ConfigError(
            f"qgface_plugin.arcface_torch.autoload is for the train_v2.py of an arcface_torch checkout, not {script}"
        )
    argument = next((given for given in sys.argv[1:] if not given.startswith("-")), None)
    if argument is None or checkout in _running:
        return False
    if multiprocessing.parent_process() is not None:  # a data worker that has imported the main module anew
        own = is_own_config(argument, checkout)
        prepare(checkout, argument, None if own else load_recipe(argument), EarlyLog())
        return False
    if distributed.is_initialized():
        raise ConfigError(
            f"{script} imports {__package__}.autoload below init_process_group: it belongs above all other imports. "
            f"Take the line out, and run python -m qgface_plugin attach {checkout}"
        )
    with early_log() as log, fellow_ranks():
        run = None if is_own_config(argument, checkout) else load_recipe(argument)
        if run is not None and run.host and Path(run.host).resolve() != checkout:
            raise ConfigError(f"config.host names {run.host}, but this is the train_v2.py of {checkout}: leave it out")
        train(checkout, argument, run, log, sys.argv[1:])
    return True


@contextmanager
def _without_settings(checkout: Path) -> Iterator[None]:
    """The script lists every setting, in force or not: the header of the log and recipe.json have those that are."""
    script, root = (checkout / SCRIPT).resolve(), logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return not (str(record.msg).startswith(": ") and Path(record.pathname).resolve() == script)

    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


@contextmanager
def _as_script(checkout: Path, arguments: Sequence[str]) -> Iterator[None]:
    """The command line and import path of `python <checkout>/train_v2.py <arguments>`; afterwards both are as before,
    with what the environment says to W&B, and the checkout's modules are forgotten."""
    argv, path, known = list(sys.argv), list(sys.path), set(sys.modules)
    tracking = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    sys.argv[:] = [str(checkout / SCRIPT), *arguments]
    sys.path.insert(0, str(checkout))
    try:
        yield
    finally:
        sys.argv[:], sys.path[:] = argv, path
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.update(tracking)
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and checkout in Path(file).resolve().parents:
                del sys.modules[name]


def run_script(script: str | Path, arguments: list[str]) -> None:
    """Run a script as `python SCRIPT ARGUMENTS` does, after `compat.apply` to its checkout.

    Only repairs are made: without a line by `attach`, `train_v2.py` trains what it trains by itself. `sys.argv` and
    `sys.path` change, so it is the last thing that a process does. What the script raises passes through.

    Args:
        script: a file in a checkout.
        arguments: its command line.

    Raises:
        ConfigError: The script is not in a checkout.
    """
    script = Path(script)
    checkout = checkout_of(script)
    with early_log():
        compat.apply(checkout)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")

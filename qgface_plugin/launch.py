"""Launch of a recipe: which of the two trainers runs it, the built-in loop or an arcface_torch checkout."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .arcface_torch.checkout import find_checkout, is_own_config, may_be_own_config
from .config.changes import shown
from .config.recipe import load_recipe
from .training.preemption import watch_for_stop
from .utils.errors import ConfigError
from .utils.logs import early_log

LOGGER = logging.getLogger(__name__)


def run_recipe(path: str, changes: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Load and check a recipe, train it, and return its verification results (none of a checkout's, which logs them).

    The trainer is the arcface_torch checkout that `config.host` or ARCFACE_TORCH names, or the working directory when
    it is one; else the built-in loop. A path configs/... is the checkout's own config where there is a checkout and no
    such file where the user stands.
    `changes` are settings by dotted key, on top of the recipe's; a checkout's own config takes none.
    Raises ConfigError, DataError or CheckpointError for what does not fit, TrainingError when training cannot go on,
    Stopped when a signal asked it to leave.
    """
    with watch_for_stop() as stop, stop.at_once("PyTorch is imported"):
        from .utils.distributed import fellow_ranks, leave  # for which --help does not wait

    with early_log() as log, fellow_ranks():
        run = None
        found = find_checkout() if may_be_own_config(path) else None
        if found is None or not is_own_config(path, found[0]):
            with watch_for_stop() as stop, stop.at_once("reading the recipe"):
                stop.leave = leave
                run = load_recipe(path, changes=changes)
            found = find_checkout(run.host)
        elif changes:
            raise ConfigError(
                f"{path} is a config of the checkout {found[0]} and trains what it says: change that file, or write a "
                f"recipe. It cannot take {shown(changes)}"
            )
        if found is not None:
            LOGGER.info("training in the arcface_torch checkout %s, named by %s", *found)
            from .arcface_torch.run import train as train_there

            train_there(found[0], path, run, log)
            return {}
        LOGGER.info("training with the built-in loop: neither config.host nor ARCFACE_TORCH names a checkout")
        from .training.trainer import train

        assert run is not None  # a checkout has trained its own config
        return train(run, log)

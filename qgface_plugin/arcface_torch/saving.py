"""Saves of a checkout's loop: checked before they take the place of what is there, and whole or not at all.

The loop calls `torch.save` at the end of each epoch, whatever the epoch's last step was like. So for the time of the
run that name leads here, for the files that the loop saves in the run's folder; all others are saved as ever.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..training.checkpoints.finite import first_not_finite
from ..training.checkpoints.parameters import names_of
from ..training.rollback import advice
from ..utils import distributed
from ..utils.errors import CheckpointError, TrainingError
from ..utils.torch_files import KEYS, replace_file
from .replacements import ADDED, Replacements

LOGGER = logging.getLogger(__name__)


@contextmanager
def checked_saves(parts: Replacements) -> Iterator[None]:
    """For the block, `torch.save` writes a checkpoint or the weights of the run only when they are fit to go on from.

    Nothing is written in an epoch whose last step had no finite loss and gradient (the last epoch's is, as there is no
    later one), nor weights that are not finite: what was saved before stays. A checkpoint also gets the names of the
    optimiser's parameters, its rank and its classes.

    Args:
        parts: of the run.

    Raises:
        TrainingError: from `torch.save`: weights that are not finite at the end of the run, or a file that cannot be
            written; the one of before is whole then.
    """
    original = torch.save
    folder = Path(parts.run.output).resolve()

    def save(obj: object, f: Any, *arguments: Any, **options: Any) -> None:
        path = Path(os.fsdecode(f)) if isinstance(f, (str, bytes, os.PathLike)) else None
        kind = None if path is None or path.parent.resolve() != folder else _kind(obj)
        if path is None or kind is None or arguments or options:
            original(obj, f, *arguments, **options)
            return
        assert isinstance(obj, Mapping)
        if kind == "checkpoint":
            obj = {**obj, ADDED: _whose(parts)}
        if _fit(parts, path, kind, obj):
            try:
                replace_file(path, obj)
            except CheckpointError as error:
                raise TrainingError(str(error)) from error

    torch.save = save
    try:
        yield
    finally:
        torch.save = original


def _kind(obj: object) -> str | None:
    """What the loop is about to save, by what is in it."""
    if not isinstance(obj, Mapping) or not obj:
        return None
    if all(key in obj for key in KEYS):
        return "checkpoint"
    return "weights" if all(isinstance(value, Tensor) for value in obj.values()) else None


def _whose(parts: Replacements) -> dict[str, Any]:
    criterion, ranks = parts.criterion, distributed.world_size()
    said: dict[str, Any] = {"rank": distributed.rank(), "ranks": ranks}
    if criterion is not None:
        said["classes"] = [criterion.class_start, criterion.num_local]
        if parts.backbone is not None and parts.optimizer is not None:
            said["names"] = names_of(parts.backbone, criterion, parts.optimizer)["optimizer"]
    return said


def _fit(parts: Replacements, path: Path, kind: str, obj: Mapping[str, Any]) -> bool:
    """Whether to write it, the same on all ranks for a checkpoint, which each of them saves under its own name."""
    state = obj if kind == "checkpoint" else {"state_dict_backbone": obj}
    unfit = first_not_finite(state)
    if kind == "checkpoint" and path == parts.checkpoint():
        found = distributed.gather_objects(unfit)
        unfit = next((f"{name} of rank {rank}" for rank, name in enumerate(found) if name), "")
    last, kept = parts.in_the_last_epoch(), f"{path} stays as it was" if path.exists() else f"there is no {path} yet"
    if unfit:
        problem = f"{unfit} is not finite, so it is not saved: {kept}"
        if last:
            raise TrainingError(f"{problem}. {advice(parts.checkpoint())}")
        LOGGER.warning("%s", problem)
        return False
    if parts.criterion is not None and parts.criterion.bad_in_a_row and not last:
        LOGGER.warning("the epoch ends in a step that is not finite, so nothing is saved: %s", kept)
        return False
    return True

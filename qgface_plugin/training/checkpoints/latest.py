"""Latest state that every rank of a run has whole, resharded where another number of ranks has saved it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...utils import distributed
from ...utils.errors import CheckpointError
from ...utils.torch_files import DamagedError, load
from .finite import first_not_finite
from .reshard import MISFITS, needed, reshard
from .store import CheckpointSet, Entry, as_checkpoint, complete_sets, entries

LOGGER = logging.getLogger(__name__)


def latest_state(
    folder: str | Path,
    name: str,
    *,
    num_classes: int,
    queue_size: int | None,
    queue_slots: int,
    only_own: bool = False,
    check: Callable[[Mapping[str, Any]], None] = lambda state: None,
) -> dict[str, Any] | None:
    """This rank's state of the latest step that all ranks have saved whole.

    Ranks may have been killed between their saves, and files may be damaged: then it is an older step, and the log
    says why. A set saved by another number of ranks is resharded, for which every rank must see all files of the set.

    Args:
        folder: that the checkpoints are in.
        name: the run that is preferred, with `only_own` the only one.
        num_classes, queue_size, queue_slots: as for `reshard`.
        only_own: other runs' checkpoints do not count.
        check: raises CheckpointError for a state that this run cannot go on from.

    Returns:
        The state; None where there is no checkpoint, with `only_own` also where there is no usable one.

    Raises:
        CheckpointError: on all ranks, when there are files but no usable set, or for a file that is refused.
    """
    seen: list[Entry] = []
    problems: list[str] = []
    refused: str | None = None
    try:
        seen, problems = entries(folder)
    except CheckpointError as error:
        refused = str(error)
    everyone = distributed.gather_objects((seen, problems, refused))
    if refused := next((third for _, _, third in everyone if third), None):
        raise CheckpointError(refused)
    files = {entry.path.name: entry for rank in everyone for entry in rank[0]}.values()
    problems = sorted({problem for _, listed, _ in everyone for problem in listed})
    for line in problems:
        LOGGER.warning("%s; it is passed over", line)

    for candidate in complete_sets(files, name):
        if only_own and candidate.run_id != name:
            continue
        state: dict[str, Any] | None = None
        problem: str | None = None
        refused = None
        try:
            state = _load(Path(folder), candidate, num_classes, queue_size, queue_slots)
            check(state)
            if unfit := first_not_finite(state):
                raise DamagedError(f"step {candidate.step} of rank {distributed.rank()}: {unfit} is not finite")
        except DamagedError as error:
            problem = str(error)
        except CheckpointError as error:
            refused = str(error)
        except OSError as error:
            problem = f"step {candidate.step} cannot be read: {error.filename or folder}: {error.strerror or error}"
        except MISFITS as error:
            refused = f"step {candidate.step} in {folder} is no state of a run ({type(error).__name__}: {error})"
        outcomes = distributed.gather_objects((problem, refused))
        if refused := next((second for _, second in outcomes if second), None):
            raise CheckpointError(refused)
        damaged = sorted({first for first, _ in outcomes if first})
        if not damaged:
            for reason in _not_whole(list(files), candidate.step):
                LOGGER.warning("%s; it is passed over", reason)
            return state
        problems += damaged
        LOGGER.warning("%s; step %d is passed over for the checkpoint before it", "; ".join(damaged), candidate.step)
    if only_own or not (files or problems):
        return None
    raise CheckpointError(_nothing_usable(folder, list(files), problems))


def _load(folder: Path, which: CheckpointSet, num_classes: int, queue_size: int | None, slots: int) -> dict[str, Any]:
    ranks, rank = distributed.world_size(), distributed.rank()
    wanted = [rank] if which.ranks == ranks else needed(num_classes, which.ranks, rank, ranks)
    saved = {}
    found, unusable = entries(folder, wanted.__contains__)
    here = {(e.rank, e.step, e.ranks, e.run_id): e.path for e in found}
    for i in wanted:
        path = here.get((i, which.step, which.ranks, which.run_id))
        if path is None and unusable:  # which another rank may have been able to read
            raise DamagedError("; ".join(unusable))
        if path is None:
            raise CheckpointError(
                f"rank {rank} does not see rank {i}'s checkpoint of step {which.step} in {folder}: put the files of "
                "all ranks into one folder that every machine sees"
            )
        saved[i] = as_checkpoint(path, load(path))
        if i != wanted[0]:
            saved[i].pop("state_dict_backbone")
    if which.ranks == ranks:
        return saved[rank]
    recipe = saved[0].get("qgface", {}).get("recipe", {})
    then = recipe.get("num_classes", num_classes) if isinstance(recipe, Mapping) else num_classes
    if then != num_classes:
        raise CheckpointError(f"{folder} holds a run on {then} classes, and the data has {num_classes}")
    LOGGER.info(
        "step %d was saved by %d rank(s), this run has %d: its state is cut anew", which.step, which.ranks, ranks
    )
    try:
        return reshard(
            saved, rank, ranks, before=which.ranks, num_classes=num_classes, queue_size=queue_size, queue_slots=slots
        )
    except MISFITS as error:
        raise CheckpointError(f"step {which.step} in {folder} cannot be cut anew: {error}") from error


def _nothing_usable(folder: str | Path, files: list[Entry], problems: list[str]) -> str:
    if any(entry.ranks is None for entry in files):
        foreign = next(entry.path for entry in files if entry.ranks is None)
        return (
            f"{foreign} was not saved by the built-in loop: set config.init_from to it to start from its weights, "
            "and config.output to a new folder"
        )
    reasons = [*problems, *_not_whole(files)]
    why = "; ".join(reasons) or "its files are no whole set"
    return f"no usable checkpoint in {folder}: {why}. Put a whole one there, or start anew with config.resume = False"


def _not_whole(files: list[Entry], after: int = -1) -> list[str]:
    """Why the files of steps later than `after` are no whole sets, for those that are none."""
    reasons = []
    ours = [e for e in files if e.ranks is not None and e.step > after]
    whole = {(one.step, one.ranks) for one in complete_sets(ours)}
    for step, ranks in sorted({(e.step, e.ranks) for e in ours if e.ranks is not None} - whole):
        these = [e for e in ours if (e.step, e.ranks) == (step, ranks)]
        missing = [str(i) for i in range(min(ranks, 1000)) if i not in {e.rank for e in these}]
        if missing:
            reasons.append(f"step {step} of {ranks} rank(s) lacks rank(s) {', '.join(missing)}")
        other = next((e for e in these if (e.run_id, e.good) != (these[0].run_id, these[0].good)), None)
        if other is not None:
            what = "of another run" if other.run_id != these[0].run_id else "after other steps"
            reasons.append(f"{other.path.name} of step {step} is {what} than {these[0].path.name}")
    return reasons

"""One checkpoint out of the ones of all ranks, the built-in host's or an arcface_torch checkout's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import CheckpointError
from ..utils.torch_files import load
from .reshard import reshard
from .store import Entry, as_checkpoint, complete_sets, entries


def newest_parts(folder: str | Path) -> list[Entry]:
    """The files, by rank, of the newest step in `folder` that no rank's checkpoint is missing of.

    Files of arcface_torch's own do not say how many ranks there were: all that lie there count. Raises CheckpointError
    when there is none, or when such files are of different steps or ranks are missing between them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    found, problems = entries(folder)
    if sets := complete_sets(found):
        newest = max(sets, key=lambda one: one.step)
        same = [e for e in found if (e.step, e.ranks, e.run_id or "") == (newest.step, newest.ranks, newest.run_id)]
        by_rank = {entry.rank: entry for entry in same}
        return [by_rank[rank] for rank in range(newest.ranks)]
    foreign = sorted((entry for entry in found if entry.ranks is None), key=lambda entry: entry.rank)
    if not foreign:
        why = "; ".join(problems) or "no step is there of all ranks" if found or problems else "it holds none"
        raise CheckpointError(f"no whole set of checkpoints in {folder}: {why}")
    if [entry.rank for entry in foreign] != list(range(len(foreign))):
        raise CheckpointError(f"{folder} has checkpoints of ranks {[e.rank for e in foreign]}: some are missing")
    if len({entry.step for entry in foreign}) > 1:
        raise CheckpointError(
            "the checkpoints are of different steps: " + ", ".join(f"{e.path.name} of {e.step}" for e in foreign)
        )
    return foreign


def merge(files: Sequence[Entry]) -> dict[str, Any]:
    """The checkpoint that a single rank would have saved, from those of all ranks, in the order of their ranks.

    Needs memory for all of them. Raises CheckpointError when the files do not belong together.
    """
    parts = {rank: as_checkpoint(entry.path, load(entry.path)) for rank, entry in enumerate(files)}
    recipe = parts[0].get("qgface", {}).get("recipe", {})
    rows = [len(part["state_dict_softmax_fc"]["weight"]) for part in parts.values()]
    num_classes = recipe.get("num_classes") or sum(rows)
    method = recipe.get("qgface", {})
    size = (method.get("queue_size") or num_classes) if method.get("queue") in ("proxy", "momentum") else None
    try:
        return reshard(parts, 0, 1, before=len(files), num_classes=num_classes, queue_size=size, queue_slots=size or 0)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoints in {files[0].path.parent} do not belong together: {error}") from error

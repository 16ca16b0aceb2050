"""Resharding: the state that N ranks saved, as one rank of M needs it, by pure functions on state dicts.

What is cut along the classes (centres, their optimiser state and pending gradients) is put together and cut anew. A
queue entry goes to the rank that now owns its class and keeps its serial number, so the set of living entries stays.
All else is the same on every rank, or, as the running statistics of batch normalisation, taken from rank 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...loss.feature_queue import NEVER, FeatureQueue
from ...utils.distributed import shard_of
from ...utils.errors import CheckpointError
from ...utils.torch_files import load
from .store import Entry, as_checkpoint, complete_sets, entries

Shards = Mapping[int, Mapping[str, Any]]  # by the rank that saved it
QUEUE = "queue."
MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)  # of crafted states


def needed(num_classes: int, before: int, rank: int, ranks: int) -> list[int]:
    """The ranks, of `before` ones, whose files rank `rank` of `ranks` needs: rank 0's and the owners of its classes.

    Example:
        >>> needed(num_classes=8, before=4, rank=1, ranks=2)
        [0, 2, 3]
    """
    start, length = shard_of(num_classes, rank, ranks)
    owners = [i for i in range(before) if _overlap(shard_of(num_classes, i, before), (start, length))]
    return sorted({0, *owners})


def reshard(
    shards: Shards,
    rank: int,
    ranks: int,
    *,
    before: int,
    num_classes: int,
    queue_size: int | None = None,
    queue_slots: int = 0,
) -> dict[str, Any]:
    """The checkpoint of rank `rank` of `ranks`, from those that `before` ranks saved after the same step.

    The tensors are copies. The random generators' states (`qgface.rng`) are left out: they belong to one rank of
    `before` ones.

    Args:
        shards: at least those of `needed`, by the rank that saved them.
        rank, ranks: this rank, and how many there are now.
        before: how many there were.
        num_classes: of the run.
        queue_size: Q; entries that are dead by it are left behind. None: all are kept.
        queue_slots: slots that the queue has at least.

    Raises:
        ValueError: a shard is missing, or its number of classes is not what its rank owns.
    """
    owned = {i: shard_of(num_classes, i, before) for i in needed(num_classes, before, rank, ranks)}
    if missing := sorted(owned.keys() - shards.keys()):
        raise ValueError(f"rank {rank} of {ranks} needs the checkpoints of ranks {missing}")
    shards = {i: shards[i] for i in owned}
    for i, (_, length) in owned.items():
        rows = len(shards[i]["state_dict_softmax_fc"]["weight"])
        if rows not in (0, length):  # none: without classification
            raise ValueError(f"rank {i} of {before} has {rows} centres: of {num_classes} classes it owns {length}")
    share = shard_of(num_classes, rank, ranks)

    def joined(*keys: str | int) -> Any:
        parts: dict[int, Any] = dict(shards)
        for key in keys:
            parts = {i: part[key] for i, part in parts.items()}
        return _joined(parts, owned, share)

    first = shards[0]
    criterion = {
        key: joined("state_dict_softmax_fc", key) for key in first["state_dict_softmax_fc"] if not key.startswith(QUEUE)
    }
    criterion.update(_queue(shards, owned, share, queue_size, queue_slots))
    optimizer = first["state_optimizer"]
    sharded = set(optimizer["param_groups"][-1]["params"])  # the criterion's: arcface_torch's order, and ours
    state = {
        index: {
            name: joined("state_optimizer", "state", index, name) if index in sharded else value
            for name, value in values.items()
        }
        for index, values in optimizer["state"].items()
    }
    result = {**first, "state_dict_softmax_fc": criterion, "state_optimizer": {**optimizer, "state": state}}
    if "qgface" in first:
        extra = {**first["qgface"], "world_size": ranks, "rng": None}
        extra.update({key: value for key, value in (("rank", rank), ("classes", list(share))) if key in extra})
        if extra.get("gradients"):
            count = len(extra["gradients"]["criterion"])
            pending = [joined("qgface", "gradients", "criterion", k) for k in range(count)]
            extra["gradients"] = {**extra["gradients"], "criterion": pending}
        if rank:
            extra["skipped"], extra["record"] = 0, None
        result["qgface"] = extra
    return result


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(one[0], other[0]) < min(one[0] + one[1], other[0] + other[1])


def _joined(values: Mapping[int, Any], owned: Mapping[int, tuple[int, int]], share: tuple[int, int]) -> Any:
    """This share's rows of a tensor with one row per class; anything else as the first rank has it."""
    if not all(isinstance(v, Tensor) and v.ndim and len(v) == owned[i][1] for i, v in values.items()):
        return values[min(values)]
    start, end = share[0], share[0] + share[1]
    rows = []
    for i, (first, length) in sorted(owned.items()):
        low, high = max(start, first), min(end, first + length)
        if low < high:
            rows.append(values[i][low - first : high - first])
    return torch.cat(rows)


def _queue(
    shards: Shards, owned: Mapping[int, tuple[int, int]], share: tuple[int, int], size: int | None, slots: int
) -> dict[str, Tensor]:
    """The queue's buffers for this share of the classes, oldest entry first; none where there is no queue."""
    first = {k.removeprefix(QUEUE): v for k, v in shards[0]["state_dict_softmax_fc"].items() if k.startswith(QUEUE)}
    if not first:
        return {}
    oldest = NEVER + 1 if size is None else int(first["enqueued"]) - size
    columns = FeatureQueue.BUFFERS
    kept: dict[str, list[Tensor]] = {name: [] for name in columns}
    for i, shard in shards.items():
        entries = {name: shard["state_dict_softmax_fc"][QUEUE + name] for name in columns}
        classes = entries["labels"] + owned[i][0]
        keep = (entries["serial"] >= max(oldest, NEVER + 1)) & (classes >= share[0]) & (classes < sum(share))
        for name in columns:
            kept[name].append((classes - share[0] if name == "labels" else entries[name])[keep])
    entries = {name: torch.cat(values) for name, values in kept.items()}
    order = entries["serial"].argsort()
    count = len(order)
    buffers = {}
    for name, fill in FeatureQueue.EMPTY.items():
        laid = entries[name].new_full((max(count, slots), *entries[name].shape[1:]), fill)
        laid[:count] = entries[name][order]
        buffers[QUEUE + name] = laid
    cursor = first["cursor"].new_tensor(count % max(count, slots, 1))
    return {**buffers, QUEUE + "enqueued": first["enqueued"], QUEUE + "cursor": cursor}


# --- One checkpoint out of the ones of all ranks, the built-in loop's or an arcface_torch checkout's ------------------


def latest_files(folder: str | Path) -> list[Entry]:
    """The files, by rank, of the latest step in `folder` that no rank's checkpoint is missing of.

    Files of arcface_torch's own do not say how many ranks there were: all that lie there count.

    Raises:
        CheckpointError: there is none, or such files are of different steps, or ranks are missing between them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    files, problems = entries(folder)
    if sets := complete_sets(files):
        latest = max(sets, key=lambda one: one.step)
        same = [e for e in files if (e.step, e.ranks, e.run_id or "") == (latest.step, latest.ranks, latest.run_id)]
        by_rank = {entry.rank: entry for entry in same}
        return [by_rank[rank] for rank in range(latest.ranks)]
    foreign = sorted((entry for entry in files if entry.ranks is None), key=lambda entry: entry.rank)
    if not foreign:
        why = "; ".join(problems) or "no step is there of all ranks" if files or problems else "it holds none"
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

    Needs memory for all of them.

    Raises:
        CheckpointError: the files do not belong together.
    """
    shards = {rank: as_checkpoint(entry.path, load(entry.path)) for rank, entry in enumerate(files)}
    try:
        recipe = shards[0].get("qgface", {}).get("recipe", {})
        rows = [len(shard["state_dict_softmax_fc"]["weight"]) for shard in shards.values()]
        num_classes = recipe.get("num_classes") or sum(rows)
        method = recipe.get("qgface", {})
        size = (
            (method.get("queue_size") or num_classes)
            if method.get("queue") in ("proxy", "momentum", "teacher")
            else None
        )
        return reshard(shards, 0, 1, before=len(files), num_classes=num_classes, queue_size=size, queue_slots=size or 0)
    except CheckpointError:
        raise
    except MISFITS as error:
        raise CheckpointError(f"the checkpoints in {files[0].path.parent} do not belong together: {error}") from error

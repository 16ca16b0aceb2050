"""The state that N ranks saved, as one rank of M needs it: pure functions on state dicts.

What is cut along the classes (centres, their optimiser state and pending gradients) is put together and cut anew. A
queue entry goes to the rank that now owns its class and keeps its serial number, so the set of living entries stays.
All else is the same on every rank, or, as the running statistics of batch normalisation, taken from rank 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..loss.feature_queue import NEVER
from ..utils.distributed import shard_of

Parts = Mapping[int, Mapping[str, Any]]  # by the rank that saved it
QUEUE = "queue."


def needed(num_classes: int, before: int, rank: int, ranks: int) -> list[int]:
    """The ranks, of `before` ones, whose files rank `rank` of `ranks` needs: rank 0's and the owners of its classes."""
    start, length = shard_of(num_classes, rank, ranks)
    owners = [i for i in range(before) if _overlap(shard_of(num_classes, i, before), (start, length))]
    return sorted({0, *owners})


def reshard(
    parts: Parts,
    rank: int,
    ranks: int,
    *,
    before: int,
    num_classes: int,
    queue_size: int | None = None,
    queue_slots: int = 0,
) -> dict[str, Any]:
    """The checkpoint of rank `rank` of `ranks`, from those that `before` ranks saved after the same step.

    parts: at least those of `needed`; num_classes: of the run; queue_size: Q, entries that are dead by it are left
    behind, None: all are kept; queue_slots: slots that the queue has at least. The tensors are copies. The random
    generators' states (`qgface.rng`) are left out: they belong to a rank of `before` ones.
    Raises ValueError when a part is missing or its number of classes is not what its rank owns.
    """
    owned = {i: shard_of(num_classes, i, before) for i in needed(num_classes, before, rank, ranks)}
    if missing := sorted(owned.keys() - parts.keys()):
        raise ValueError(f"rank {rank} of {ranks} needs the parts of ranks {missing}")
    parts = {i: parts[i] for i in owned}
    for i, (_, length) in owned.items():
        rows = len(parts[i]["state_dict_softmax_fc"]["weight"])
        if rows != length:
            raise ValueError(f"rank {i} of {before} has {rows} centres: of {num_classes} classes it owns {length}")
    share = shard_of(num_classes, rank, ranks)

    def joined(pick: Callable[[Mapping[str, Any]], Any]) -> Any:
        return _joined({i: pick(part) for i, part in parts.items()}, owned, share)

    first = parts[0]
    criterion = {
        key: joined(lambda part, key=key: part["state_dict_softmax_fc"][key])
        for key in first["state_dict_softmax_fc"]
        if not key.startswith(QUEUE)
    }
    criterion.update(_queue(parts, owned, share, queue_size, queue_slots))
    optimizer = first["state_optimizer"]
    sharded = set(optimizer["param_groups"][-1]["params"])  # the criterion's: arcface_torch's order, and ours
    state = {
        index: {
            name: joined(lambda part, index=index, name=name: part["state_optimizer"]["state"][index][name])
            if index in sharded
            else value
            for name, value in values.items()
        }
        for index, values in optimizer["state"].items()
    }
    result = {**first, "state_dict_softmax_fc": criterion, "state_optimizer": {**optimizer, "state": state}}
    if "qgface" in first:
        extra = {**first["qgface"], "world_size": ranks, "rng": None}
        if extra.get("gradients"):
            count = len(extra["gradients"]["criterion"])
            pending = [joined(lambda part, k=k: part["qgface"]["gradients"]["criterion"][k]) for k in range(count)]
            extra["gradients"] = {**extra["gradients"], "criterion": pending}
        if rank:
            extra["skipped"], extra["record"] = 0, None
        result["qgface"] = extra
    return result


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(one[0], other[0]) < min(one[0] + one[1], other[0] + other[1])


def _joined(values: Mapping[int, Any], owned: Mapping[int, tuple[int, int]], share: tuple[int, int]) -> Any:
    """This share's rows of a tensor with a row for each class; anything else as the first rank has it."""
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
    parts: Parts, owned: Mapping[int, tuple[int, int]], share: tuple[int, int], size: int | None, slots: int
) -> dict[str, Tensor]:
    """The queue's buffers for this share of the classes, oldest entry first; none where there is no queue."""
    first = {k.removeprefix(QUEUE): v for k, v in parts[0]["state_dict_softmax_fc"].items() if k.startswith(QUEUE)}
    if not first:
        return {}
    oldest = NEVER + 1 if size is None else int(first["enqueued"]) - size
    columns = ("residual", "scale", "labels", "serial")
    found: dict[str, list[Tensor]] = {name: [] for name in columns}
    for i, part in parts.items():
        entries = {name: part["state_dict_softmax_fc"][QUEUE + name] for name in columns}
        classes = entries["labels"] + owned[i][0]
        keep = (entries["serial"] >= max(oldest, NEVER + 1)) & (classes >= share[0]) & (classes < sum(share))
        for name in columns:
            found[name].append((classes - share[0] if name == "labels" else entries[name])[keep])
    entries = {name: torch.cat(values) for name, values in found.items()}
    order = entries["serial"].argsort()
    count = len(order)
    empty = {"residual": 0, "scale": 0, "labels": -1, "serial": NEVER}
    buffers = {}
    for name, fill in empty.items():
        laid = entries[name].new_full((max(count, slots), *entries[name].shape[1:]), fill)
        laid[:count] = entries[name][order]
        buffers[QUEUE + name] = laid
    cursor = first["cursor"].new_tensor(count % max(count, slots, 1))
    return {**buffers, QUEUE + "enqueued": first["enqueued"], QUEUE + "cursor": cursor}

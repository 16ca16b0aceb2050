"""Queue kinds (Table II) by the name that `config.qgface.queue` gives them.

An own kind is a FeatureQueue in one file that the recipe imports, made known by `queue_kind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import distributed
from .feature_queue import FeatureQueue, slots_of_rank


@dataclass(frozen=True)
class QueueKind:
    """make: from Q and d to this rank's queue, or to None for no contrast; refreshed: entries follow the movement of
    their class centres; keyed: the entries, and the positives, are a momentum encoder's embeddings."""

    make: Callable[[int, int], FeatureQueue | None]
    refreshed: bool = False
    keyed: bool = False


QUEUES: dict[str, QueueKind] = {}


def queue_kind(name: str, kind: QueueKind) -> None:
    """Make a kind known by its name; one of ours is not replaced, which raises ValueError."""
    if name in _OURS:
        raise ValueError(f"there is a queue kind {name!r} already")
    QUEUES[name] = kind


def past_entries(kind: type[FeatureQueue], size: int, dim: int) -> FeatureQueue:
    """A queue of Q entries over all ranks, with this rank's share of the slots."""
    return kind(size, dim, slots=slots_of_rank(size, distributed.world_size()))


def _past(size: int, dim: int) -> FeatureQueue:
    return past_entries(FeatureQueue, size, dim)


_OURS = {
    "none": QueueKind(lambda size, dim: None),
    "batch": QueueKind(lambda size, dim: FeatureQueue(None, dim)),
    "momentum": QueueKind(_past, keyed=True),
    "proxy": QueueKind(_past, refreshed=True),
}
QUEUES.update(_OURS)

"""Queue kinds (Table II) by the name that `config.qgface.queue` gives them.

An own kind is a FeatureQueue in one file that the recipe imports, made known by `queue_kind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .feature_queue import FeatureQueue, slots_of_rank
from .utils import distributed
from .utils.registry import QUEUE_KINDS


@dataclass(frozen=True)
class QueueKind:
    """make: from Q and d to this rank's queue, or to None for no contrast; refreshed: entries follow the movement of
    their class centres; keyed: the entries, and the positives, are a momentum encoder's embeddings."""

    make: Callable[[int, int], FeatureQueue | None]
    refreshed: bool = False
    keyed: bool = False


def queue_kind(name: str, kind: QueueKind) -> None:
    """Make a kind known by its name.

    Raises:
        ValueError: the name is one of the project's own kinds.
    """
    QUEUE_KINDS.add(name, kind)


def past_entries(kind: type[FeatureQueue], size: int, dim: int) -> FeatureQueue:
    """A queue of Q entries over all ranks, with this rank's share of the slots."""
    return kind(size, dim, slots=slots_of_rank(size, distributed.world_size()))


def _past(size: int, dim: int) -> FeatureQueue:
    return past_entries(FeatureQueue, size, dim)


queue_kind("none", QueueKind(lambda size, dim: None))
queue_kind("batch", QueueKind(lambda size, dim: FeatureQueue(None, dim)))
queue_kind("momentum", QueueKind(_past, keyed=True))
queue_kind("proxy", QueueKind(_past, refreshed=True))
QUEUE_KINDS.freeze()

"""Queue of past embeddings that the contrast draws its negatives from (section III-C), sharded by class.

An entry lives on the rank that owns its class. It is kept as r and a (`functional.split_refresh`), so that its
refreshed feature is r + a W_now[y]; a = 0 is an entry that is not refreshed (queue kinds `batch` and `momentum`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..utils import distributed
from ..utils.late_read import LateRead
from ..utils.registry import QUEUE_KINDS
from .functional import SHORTEST, split_refresh

NEVER = -(2**62)  # serial number of a slot that holds nothing
BLOCK = 1024  # entries that are refreshed and scored at a time on a CPU: they stay in its cache
BLOCK_CUDA = 16384  # on a GPU: each block keeps all of it busy

Block = tuple[Tensor, Tensor, Tensor | None]  # refreshed features (c, d), labels (c,), which are dead (c,) or None


def entries_at_a_time(cuda: bool) -> int:
    """Entries in a block."""
    return BLOCK_CUDA if cuda else BLOCK


def slots_of_rank(size: int, ranks: int) -> int:
    """Slots that a rank starts with: Q on one rank, else its even share and a quarter more, as classes are uneven."""
    return size if ranks == 1 else min(size, -(-size * 5 // (4 * ranks)))


class FeatureQueue(nn.Module):
    """First-in-first-out store of unit embeddings with labels, refreshed by the movement of their class centres.

    An entry is alive iff fewer than Q entries were enqueued after it, counted over all ranks; so what is alive does
    not depend on the number of ranks. Everything is a buffer and is saved with the model.

    Which entries a rank owns, and which are alive, is known on its device. A CPU reads it and touches those alone. A
    GPU would have to wait for that: there every row of a batch is written somewhere, those of other ranks with what the
    slot held before, and every slot is scored, dead ones with a mask; buffers, losses and gradients are the same.

    Args:
        size: Q, entries alive over all ranks; None: only the entries of the latest step (queue kind `batch`).
        dim: d, numbers in an embedding.
        slots: slots to start with on this rank.

    Attributes:
        late: nothing is read of the device; None: on CUDA.
        usable: () bool, for `late`: False lets the next `enqueue` change nothing; None: it is written.
        EMPTY: what a slot without an entry holds, by buffer.
        BUFFERS: names of the buffers that have one row per slot; `enqueued` and `cursor` are the others.

    Example:
        >>> queue = FeatureQueue(size=3, dim=2, slots=3)
        >>> centres = torch.eye(2)
        >>> queue.enqueue(torch.eye(2), torch.tensor([0, 1]), centres)  # two embeddings, each at its class centre
        >>> int(queue.living())
        2
        >>> queue.refreshed(torch.tensor([[0.6, 0.8], [0.0, 1.0]]))[:2]  # centre 0 has moved, and its entry with it
        tensor([[0.0000, 1.0000],
                [0.6000, 0.8000]])
    """

    EMPTY: ClassVar[dict[str, float | int]] = {"residual": 0.0, "scale": 0.0, "labels": -1, "serial": NEVER}
    BUFFERS: ClassVar[tuple[str, ...]] = tuple(EMPTY)

    residual: Tensor  # r (slots, d)
    scale: Tensor  # a (slots,)
    labels: Tensor  # index of the class among this rank's centres (slots,)
    serial: Tensor  # running number of the entry over all ranks (slots,)
    enqueued: Tensor  # () entries ever enqueued, over all ranks
    cursor: Tensor  # () next slot to write

    def __init__(self, size: int | None, dim: int, *, slots: int = 0) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self._allocate(slots if size is None else min(size, max(slots, 1)))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.long))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))
        self.last_rows = 0
        self.late: bool | None = None
        self.usable: Tensor | None = None
        self._crowd = LateRead()  # entries alive after the step before

    @property
    def _is_late(self) -> bool:
        return self.residual.is_cuda if self.late is None else self.late

    def _allocate(self, slots: int) -> None:
        self.register_buffer("residual", torch.zeros(slots, self.dim))
        self.register_buffer("scale", torch.zeros(slots))
        self.register_buffer("labels", torch.full((slots,), self.EMPTY["labels"]))
        self.register_buffer("serial", torch.full((slots,), self.EMPTY["serial"]))

    def entries(self) -> dict[str, Tensor]:
        """The buffers with one row per slot, by name; not copies, and others once the ring has grown."""
        return {name: getattr(self, name) for name in self.BUFFERS}

    @property
    def limit(self) -> int:
        """Entries alive at most, over all ranks."""
        return self.last_rows if self.size is None else self.size

    def alive(self) -> Tensor:
        """(slots,) bool: entries that fewer than `limit` entries were enqueued after."""
        return self.serial >= self.enqueued - self.limit

    def living(self) -> Tensor:
        """() entries alive over all ranks, known without asking them: every row enqueued has an owner."""
        return self.enqueued.clamp_max(self.limit)

    @torch.no_grad()
    def enqueue(self, features: Tensor, labels: Tensor, proxies: Tensor | None) -> None:
        """Append one global batch; its FIRST row counts as the newest (the authors' order).

        Args:
            features: (N, d) unit embeddings of all ranks.
            labels: (N,) index of the class among this rank's centres, -1 where another rank owns it.
            proxies: (N, d) centres of the classes now (rows with label -1 are not read), or None when the entries are
                not to be refreshed.
        """
        self.last_rows = len(features)
        (self._enqueue_late if self._is_late else self._enqueue_own)(features, labels, proxies)

    def _enqueue_own(self, features: Tensor, labels: Tensor, proxies: Tensor | None) -> None:
        """Write the rows that this rank owns, of which the device tells."""
        rows = len(features)
        serial = self.enqueued + torch.arange(rows - 1, -1, -1, device=labels.device)
        keep = ((labels >= 0) & (serial >= self.enqueued + rows - self.limit)).nonzero().squeeze(1).flip(0)
        self.enqueued += rows
        if len(keep) == 0:
            return
        slots = self._free_slots(len(keep))
        if proxies is None:
            self.residual[slots] = features[keep]
            self.scale[slots] = 0.0
        else:
            self.residual[slots], self.scale[slots] = split_refresh(features[keep], proxies[keep])
        self.labels[slots] = labels[keep]
        self.serial[slots] = serial[keep]
        self.cursor.copy_((slots[-1] + 1) % len(self.serial))

    def _enqueue_late(self, features: Tensor, labels: Tensor, proxies: Tensor | None) -> None:
        """Write every row that can live, each in a slot of its own; one that is not to be kept, with what was there."""
        rows, lasting = len(features), min(len(features), self.limit)  # rows beyond the limit are dead at once
        features, labels = features[:lasting], labels[:lasting]
        behind = torch.arange(lasting - 1, -1, -1, device=labels.device)  # the first row is the newest, written last
        serial = behind + (self.enqueued + (rows - lasting))
        self.enqueued += rows if self.usable is None else rows * self.usable
        self._make_room(lasting)
        keep, place = self.usable, behind
        count: Tensor | int = lasting
        if distributed.world_size() > 1:
            owned = labels >= 0
            up_to = owned.flip(0).cumsum(0).flip(0)  # rows of this rank that are as old or older
            count = up_to[0]
            place = torch.where(owned, up_to - 1, count + behind - up_to)
            keep = owned if self.usable is None else owned & self.usable
        slots = (self.cursor + place).remainder_(len(self.serial))
        if proxies is None:
            residual, scale = features.to(self.residual.dtype), torch.zeros_like(self.scale[:lasting])
        else:
            residual, scale = split_refresh(features, proxies[:lasting])
        for buffer, new in zip(self.entries().values(), (residual, scale, labels, serial), strict=True):
            if keep is not None:
                new = torch.where(keep.unsqueeze(-1) if new.ndim == 2 else keep, new, buffer[slots])
            buffer.index_copy_(0, slots, new)
        self.cursor.add_(count if self.usable is None else count * self.usable).remainder_(len(self.serial))
        self.count_living()

    def count_living(self) -> None:
        """Let the next step know how many slots hold a living entry, where a ring may have to grow."""
        if self._is_late and len(self.serial) != self.size:
            self._crowd.put(self.alive().sum())

    def _make_room(self, count: int) -> None:
        """Grow the ring where `count` entries more could meet a living one, by what the step before has told."""
        if len(self.serial) == self.size:  # what is overwritten has Q newer ones after it
            return
        crowd = None if self.size is None else self._crowd.take()
        if crowd is None:  # the first step, or one that leaves only its own entries alive
            crowd = 0 if self.size is None else int(self.alive().sum())
        if crowd + count > len(self.serial):
            self._grow(count)

    def _free_slots(self, count: int) -> Tensor:
        """The next `count` slots in ring order; grows the ring when one of them still holds a living entry."""
        ahead = torch.arange(count, device=self.serial.device)
        if count <= len(self.serial):
            slots = (self.cursor + ahead) % len(self.serial)
            # a ring of Q slots holds the newest entry of each: what is overwritten has Q newer ones after it
            if len(self.serial) == self.size or not bool(self.alive()[slots].any()):
                return slots
        self._grow(count)
        return self.cursor + ahead

    def _grow(self, count: int) -> None:
        """Re-lay the living entries, oldest first, into a ring with room for `count` more (at most Q in all)."""
        alive = self.alive().nonzero().squeeze(1)
        alive = alive[self.serial[alive].argsort()]
        needed = len(alive) + count
        roomy = max(needed, len(self.serial) + len(self.serial) // 2)
        slots = roomy if self.size is None else min(roomy, self.size)
        for name, fill in self.EMPTY.items():  # one at a time, so that only one of them exists twice
            old = getattr(self, name)
            new = old.new_full((slots, *old.shape[1:]), fill)
            torch.index_select(old, 0, alive, out=new[: len(alive)])
            self.register_buffer(name, new)
            del old, new
        self.cursor.fill_(len(alive) % slots)

    def refreshed(self, centres: Tensor, slots: Tensor | None = None, *, renormalise: bool = True) -> Tensor:
        """Section III-C: r + a W_now[y], without gradient. Dead slots hold garbage; see `alive`.

        Args:
            centres: (n_local, d) this rank's class centres now; (0, d) where there are none.
            slots: indices of the wanted ones; None: all.
            renormalise: unit vectors again.

        Returns:
            (slots, d), equal to `functional.refresh`.
        """
        return self._refreshed(centres, slice(None) if slots is None else slots, renormalise)

    @torch.no_grad()
    def _refreshed(self, centres: Tensor, slots: Tensor | slice, renormalise: bool) -> Tensor:
        if len(centres):
            now = centres.index_select(0, self.labels[slots].clamp_min(0))
            torch.addcmul(self.residual[slots], now, self.scale[slots].unsqueeze(1), out=now)
        else:  # without classification there are none, and nothing moves
            now = self.residual[slots].clone()
        return now.div_(torch.linalg.vector_norm(now, dim=1, keepdim=True).clamp_min_(SHORTEST)) if renormalise else now

    def blocks(self, centres: Tensor, candidates: Tensor | None = None, *, renormalise: bool = True) -> Iterator[Block]:
        """Entries, a block at a time: refreshed features (c, d), labels (c,), and which are not to be counted, (c,)
        bool; None for the last where all of them are.

        Args:
            centres: (n_local, d) this rank's class centres now.
            candidates: (n_local,) bool, classes whose entries are wanted; None: all.
            renormalise: unit vectors again.
        """
        size, chosen, dead = entries_at_a_time(self.residual.is_cuda), None, None
        if self._is_late:
            dead = self.serial < self.enqueued - self.limit
            if candidates is not None:
                dead |= ~candidates[self.labels.clamp_min(0)]
        else:
            wanted = self.alive()
            if candidates is not None:
                wanted &= candidates[self.labels.clamp_min(0)]
            chosen = wanted.nonzero().squeeze(1)
            if len(chosen) == len(wanted):
                chosen = None  # then a block is read where it lies
        for start in range(0, len(self.serial if chosen is None else chosen), size):
            part = slice(start, start + size)
            slots = part if chosen is None else chosen[part]
            # no_grad is not around this generator: its wrapper would hold each block until the next one is made
            yield self._refreshed(centres, slots, renormalise), self.labels[slots], None if dead is None else dead[part]

    @torch.no_grad()
    def drift(self, centres: Tensor) -> Tensor:
        """How far refreshing has moved the living entries: mean | ||r + a W_now|| - 1 |, () and 0 when none moved."""
        moved = self.scale.new_zeros(())
        for now, _, dead in self.blocks(centres, renormalise=False):
            each = (now.norm(dim=1) - 1.0).abs()
            moved = moved + (each if dead is None else each.masked_fill(dead, 0.0)).sum()
        return moved / self.alive().sum().clamp_min(1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        self._crowd = LateRead()
        saved = state_dict.get(prefix + "serial")
        if saved is not None and saved.shape != self.serial.shape:
            for name, fill in self.EMPTY.items():
                old = getattr(self, name)
                self.register_buffer(name, old.new_full((len(saved), *old.shape[1:]), fill))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class FixedQueue(FeatureQueue):
    """A queue of unit embeddings that nothing moves: no class centre is looked up, and no block is copied."""

    def _refreshed(self, centres: Tensor, slots: Tensor | slice, renormalise: bool) -> Tensor:
        return self.residual[slots]


# --- Queue kinds (Table II) by the name that `config.qgface.queue` gives them -----------------------------------------
# A custom kind is a FeatureQueue in one file that the recipe imports, made known by `queue_kind`.


@dataclass(frozen=True)
class QueueKind:
    """A kind of queue, named by `config.qgface.queue`.

    Args:
        make: from Q and d to this rank's queue, or to None for no contrast.
        refreshed: entries follow the movement of their class centres.
        keyed: the entries, and the positives, are a momentum encoder's embeddings.
        taught: the entries, and the positives, are a frozen teacher's embeddings of the originals.

    Example:
        >>> kind = QueueKind(lambda size, dim: FeatureQueue(size, dim, slots=size), refreshed=True)
        >>> kind.make(8, 2).limit
        8
    """

    make: Callable[[int, int], FeatureQueue | None]
    refreshed: bool = False
    keyed: bool = False
    taught: bool = False


def queue_kind(name: str, kind: QueueKind) -> None:
    """Make a kind known by its name.

    Raises:
        ValueError: the name is one of the project's own kinds.
    """
    QUEUE_KINDS.add(name, kind)


def past_entries(kind: type[FeatureQueue], size: int, dim: int) -> FeatureQueue:
    """A queue of Q entries over all ranks, with this rank's share of the slots.

    Args:
        kind: the class of the queue.
        size: Q, over all ranks.
        dim: d, of an entry.

    Example:
        >>> len(past_entries(FeatureQueue, size=6, dim=4).serial)  # one rank: all of them
        6
    """
    return kind(size, dim, slots=slots_of_rank(size, distributed.world_size()))


def _past(size: int, dim: int) -> FeatureQueue:
    return past_entries(FeatureQueue, size, dim)


queue_kind("none", QueueKind(lambda size, dim: None))
queue_kind("batch", QueueKind(lambda size, dim: FeatureQueue(None, dim)))
queue_kind("momentum", QueueKind(_past, keyed=True))
queue_kind("proxy", QueueKind(_past, refreshed=True))
queue_kind("teacher", QueueKind(lambda size, dim: past_entries(FixedQueue, size, dim), taught=True))
QUEUE_KINDS.freeze()

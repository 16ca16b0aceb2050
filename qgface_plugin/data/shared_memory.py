"""Shared memory that data workers write pixels into and get back when the main process no longer uses it.

Torch sends every batch in new shared memory, and the system clears each of its pages when it is first touched. A batch
of 128 pairs is 2,352 pages: in a virtual machine that can cost half as much as decoding and degrading it.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import weakref
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
import torch

LOGGER = logging.getLogger(__name__)
_POOLS: weakref.WeakValueDictionary[int, PixelPool] = weakref.WeakValueDictionary()
_KEYS = itertools.count()
_said = False  # that shared memory is short: once in a process
SHM = "/dev/shm"
LIMIT = 256  # slots: a slot's number is one byte in a pipe


class PixelPool:
    """Slots of shared memory, each as large as the pixels of one batch; made by the main process before its workers.

    Free slots are bytes in a pipe, so any number of workers may take from it without a lock. A slot comes back by
    itself when the last tensor that uses it in the main process is gone; nothing breaks when none is free, or when
    some are never given back: `take` then says so.

    Args:
        slots: how many, 1 to 256. Pages that are never written to are never there.
        shape: of one slot, uint8.

    Attributes:
        memory: uint8 (slots, *shape).
        key: by which `find_pool` finds it.

    Example:
        >>> pool = PixelPool(1, (2, 2))
        >>> slot = pool.take()
        >>> pool.take() is None
        True
        >>> pixels = pool.lend(slot)
        >>> del pixels
        >>> pool.take() == slot
        True
    """

    def __init__(self, slots: int, shape: tuple[int, ...]) -> None:
        assert 1 <= slots <= LIMIT, slots
        self.memory = torch.empty((slots, *shape), dtype=torch.uint8).share_memory_()
        self._reader, self._writer = Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        os.write(self._writer.fileno(), bytes(range(slots)))
        self.key = next(_KEYS)
        _POOLS[self.key] = self

    def take(self) -> int | None:
        """In a worker: the number of a slot that nobody uses, or None when there is none."""
        try:
            return os.read(self._reader.fileno(), 1)[0]
        except BlockingIOError:
            return None

    def lend(self, slot: int) -> torch.Tensor:
        """In the main process: a slot that a worker has filled, uint8 `shape`; free again when the tensor is."""
        lease: np.ndarray = self.memory[slot].numpy()  # torch keeps it as long as any view of the tensor lives
        weakref.finalize(lease, _give_back, self._writer, slot).atexit = False
        return torch.from_numpy(lease)


def slots_that_fit(wanted: int, size: int, environ: Mapping[str, str] = os.environ) -> int:
    """How many slots of `size` bytes a rank may take: all that are wanted, or its part of half of what is free.

    A container has 64 MB of shared memory unless it is given more, and NCCL and others need of it too.
    """
    try:
        shm = os.statvfs(SHM)
    except OSError:
        return wanted
    free = shm.f_bavail * shm.f_frsize
    ranks = max(1, int(environ.get("LOCAL_WORLD_SIZE") or 1))
    return wanted if wanted * size * ranks <= free // 2 else min(wanted, free // 2 // ranks // max(1, size))


def open_pool(wanted: int, shape: tuple[int, ...]) -> tuple[PixelPool | None, bool]:
    """As many slots as there is shared memory for; a line in the log when it is too small.

    Args:
        wanted: slots, 1 to 256.
        shape: of one slot, uint8.

    Returns:
        The pool, None where not even two slots fit; and whether shared memory is short, so that batches which find no
        free slot are to take another way.
    """
    size = math.prod(shape)
    slots, reason = slots_that_fit(wanted, size), ""
    if slots >= min(2, wanted):
        try:
            pool = PixelPool(slots, shape)
            if slots == wanted:
                return pool, False
        except (RuntimeError, OSError) as error:
            pool, reason = None, f" ({str(error).splitlines()[0]})"
    else:
        pool = None
    _say_short(wanted * size, 0 if pool is None else slots * size, reason)
    return pool, True


def _say_short(wanted: int, got: int, reason: str) -> None:
    global _said
    if not _said and int(os.environ.get("LOCAL_RANK") or 0) == 0:
        LOGGER.warning(
            "%s is too small for the data workers of a rank: %d MB are wanted, %d MB are used%s, and the other batches "
            "take a slower way. Give more (docker run --shm-size=%dm), or lower config.num_workers",
            SHM, -(-wanted // 1_000_000), got // 1_000_000, reason, max(1024, 4 * wanted // 1_000_000),
        )  # fmt: skip
    _said = True


def find_pool(key: int) -> PixelPool:
    """The pool with this key, in the process that made it."""
    return _POOLS[key]


def _give_back(writer: Connection, slot: int) -> None:
    with suppress(BrokenPipeError):  # the pool is gone, and nobody waits for its slots
        os.write(writer.fileno(), bytes([slot]))

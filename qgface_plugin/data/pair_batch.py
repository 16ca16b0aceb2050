"""Batches: B pairs of views as tensors, on their way from a data worker to the network.

Views are named: `high` is the original, `low` the degraded one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .shared_memory import find_pool


@dataclass(frozen=True)
class PairBatch:
    """B pairs.

    Attributes:
        high, low: uint8 (B, 3, 112, 112), RGB, in `channels_last` memory: pixels are copied as they lie, never
            transposed; low is None in single-view training. Where `low` lies right behind `high` in memory, as in the
            batches that are made here, both travel as one tensor.
        labels: int64 (B,).
        skipped: corrupt images that were replaced while this batch was made.
        params: packed `ViewParams`, float32 (B, columns), while the views are still to be made by `gpu.both_views`:
            then `high` holds the images as they were decoded and `low` is None. Otherwise None.
        strength: float32 (B,), how strongly `low` was degraded, see `params.strength`; None in single-view training.
        slot: in a worker, (key of the pool, slot) that the pixels lie in.
        surplus: JPEGs with surplus bytes or without their end marker (see `jpeg_surplus`), which are used.
        piped: in a worker, whether to travel through a pipe, and not in new shared memory.

    Example:
        >>> pixels = torch.zeros((4, 112, 112, 3), dtype=torch.uint8)
        >>> batch = PairBatch.of(pixels, paired=True, labels=np.array([5, 7]), skipped=0)
        >>> len(batch), batch.high.shape, batch.low.shape
        (2, torch.Size([2, 3, 112, 112]), torch.Size([2, 3, 112, 112]))
    """

    high: torch.Tensor
    low: torch.Tensor | None
    labels: torch.Tensor
    skipped: int = 0
    params: torch.Tensor | None = None
    slot: tuple[int, int] | None = None
    strength: torch.Tensor | None = None
    surplus: int = 0
    piped: bool = False

    @classmethod
    def of(
        cls,
        pixels: torch.Tensor,
        paired: bool,
        labels: np.ndarray,
        skipped: int,
        params: np.ndarray | None = None,
        slot: tuple[int, int] | None = None,
        strength: np.ndarray | None = None,
        surplus: int = 0,
    ) -> PairBatch:
        """From pixels as they are decoded, uint8 (B, 112, 112, 3) or, if `paired`, (2B, ...), originals first."""
        views = pixels.permute(0, 3, 1, 2)
        high, low = (views[: len(labels)], views[len(labels) :]) if paired else (views, None)
        plans, strengths = (None if x is None else torch.from_numpy(x) for x in (params, strength))
        return cls(high, low, torch.from_numpy(labels), skipped, plans, slot, strengths, surplus)

    def __reduce__(self) -> tuple:
        """From a worker to the main process, which has the pool's memory, only the slot's number travels."""
        if self.slot is None and not self.piped:
            views = self.high, self.low, self.labels
            return PairBatch, (*views, self.skipped, self.params, None, self.strength, self.surplus)
        params, strength = (None if x is None else x.numpy() for x in (self.params, self.strength))
        paired, labels = self.low is not None, self.labels.numpy()
        if self.slot is None:
            joined = self.high if self.low is None else _joined(self.high, self.low)
            pixels = joined.permute(0, 2, 3, 1).numpy()
            return _from_pipe, (pixels, paired, labels, self.skipped, params, None, strength, self.surplus)
        return _from_slot, (self.slot, paired, labels, self.skipped, params, strength, self.surplus)

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> PairBatch:
        """The same batch in page-locked memory, from which copies to a GPU overlap with its work."""
        return self._each(torch.Tensor.pin_memory)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor of the batch."""
        return [
            tensor for tensor in (self.high, self.low, self.labels, self.params, self.strength) if tensor is not None
        ]

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PairBatch:
        params, strength = (None if x is None else change(x) for x in (self.params, self.strength))
        labels = change(self.labels)
        if self.low is None:
            high, low = change(self.high), None
        else:
            high, low = change(_joined(self.high, self.low)).chunk(2)
        return PairBatch(high, low, labels, self.skipped, params, strength=strength, surplus=self.surplus)

    def images(self) -> torch.Tensor:
        """What the network takes: float32 (2B, 3, 112, 112) in [-1, 1], originals first; of single views (B, ...)."""
        return normalise(concatenate(self)[0])

    def targets(self) -> torch.Tensor:
        """The labels of `images`: (2B,), of single views (B,)."""
        return concatenate(self)[1]

    def strengths(self) -> torch.Tensor | None:
        """`strength` of both views, (2B,), originals, which have 0, first; None in single-view training."""
        return None if self.strength is None else torch.cat([torch.zeros_like(self.strength), self.strength])


def _from_slot(
    slot: tuple[int, int],
    paired: bool,
    labels: np.ndarray,
    skipped: int,
    params: np.ndarray | None,
    strength: np.ndarray | None,
    surplus: int,
) -> PairBatch:
    key, number = slot
    pixels = find_pool(key).lend(number)[: len(labels) * (2 if paired else 1)]
    return PairBatch.of(pixels, paired, labels, skipped, params, strength=strength, surplus=surplus)


def _from_pipe(pixels: np.ndarray, *rest: Any) -> PairBatch:
    return PairBatch.of(torch.from_numpy(pixels), *rest)


def concatenate(batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Both views as one batch: images uint8 (2B, 3, 112, 112), originals first, and labels (2B,). Single views: B."""
    assert batch.params is None, "gpu.both_views comes first"
    if batch.low is None:
        return batch.high, batch.labels
    return _joined(batch.high, batch.low), torch.cat([batch.labels, batch.labels])


def _joined(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """(2B, ...): without a copy where `low` lies right behind `high`."""
    same = high.untyped_storage().data_ptr() == low.untyped_storage().data_ptr() and high.stride() == low.stride()
    if same and low.storage_offset() == high.storage_offset() + high.stride(0) * len(high):
        return high.as_strided((2 * len(high), *high.shape[1:]), high.stride())
    return torch.cat([high, low])


def normalise(images: torch.Tensor) -> torch.Tensor:
    """float32 (x - 127.5) / 127.5 in [-1, 1], on the device and in the memory format of `images`."""
    return images.to(torch.float32).sub(127.5).div_(127.5)

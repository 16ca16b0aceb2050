"""Pairs: two views of every image, and how they become a batch.

Views are named: `high` is the original, `low` the degraded one. B pairs per batch, 112 x 112 pixels; a sample is named
by (epoch, index).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from ..config.degradation import DegradationPolicy
from ..utils.errors import ConfigError, CutError, DataError
from .degradation.cpu import apply
from .degradation.custom_steps import CustomSteps
from .degradation.params import SIDE, ViewParams, draw, strength, uniforms
from .images import decode_into
from .pair_batch import PairBatch, concatenate, normalise
from .shared_memory import LIMIT, PixelPool, open_pool
from .sources.source import FaceSource

__all__ = ["ViewPair", "PairBatch", "PairDataset", "collate", "concatenate", "normalise", "worker_init"]

HELD = 4  # batches that the main process may use at a time before workers take new memory
PREFETCH = 2  # batches that torch's DataLoader has under way for each worker
# of single views, which are only mirrored
SINGLE = DegradationPolicy(rescale_p=0.0, jpeg_p=0.0, crop_p=0.0, photometric_p=0.0, rotation_p=0.0, flip_p=0.5)


class ViewPair(NamedTuple):
    """Two views of one image.

    Attributes:
        high, low: uint8 (112, 112, 3) RGB, the original and the degraded view; low is None in single-view training.
        label: identity.
        skipped: corrupt images that this one stands in for.
    """

    high: np.ndarray
    low: np.ndarray | None
    label: int
    skipped: int = 0


class PairDataset(Dataset):
    """Pairs by (epoch, index). An image is decoded once for both its views; each view is mirrored on its own.

    Everything random in a pair follows from (seed, epoch, index), so any number of workers and ranks see the same.
    A DataLoader takes whole batches from it (`__getitems__`), with `collate` and `worker_init`.

    Args:
        source: the encoded faces.
        policy: of the degraded view; `flip_p` is also the original view's. None: single views, the originals only.
        seed: in [0, 2**64).
        on_corrupt: "error" raises what the source or the decoder says of a corrupt image. "skip" takes the next good
            image in the source's order instead, with that image's own label, and counts in `ViewPair.skipped`.
        degrade_on: "cpu" makes both views here; "device" leaves that to `gpu.both_views`.

    Raises:
        ConfigError: a seed, on_corrupt or degrade_on that is not allowed; custom steps with degrade_on="device".

    Example:
        >>> import tempfile
        >>> from qgface_plugin.config.degradation import OURS
        >>> from qgface_plugin.data.procedural.dataset import write_dataset
        >>> from qgface_plugin.data.sources.records import FaceRecords
        >>> folder = write_dataset(tempfile.mkdtemp(), identities=2, images_per_identity=2, pairs=2, seed=0)
        >>> dataset = PairDataset(FaceRecords(folder), OURS, seed=0)
        >>> pair = dataset[0, 3]
        >>> pair.high.shape, pair.low.shape, pair.label
        ((112, 112, 3), (112, 112, 3), 1)
    """

    def __init__(
        self,
        source: FaceSource,
        policy: DegradationPolicy | None,
        seed: int,
        on_corrupt: str = "error",
        degrade_on: str = "cpu",
    ) -> None:
        if on_corrupt not in ("error", "skip"):
            raise ConfigError(f"on_corrupt is {on_corrupt!r}: it must be 'error' or 'skip'")
        if degrade_on not in ("cpu", "device"):
            raise ConfigError(f"degrade_on is {degrade_on!r}: it must be 'cpu' or 'device'")
        if degrade_on == "device" and policy is not None and policy.steps:
            steps = ", ".join(policy.steps)
            raise ConfigError(f"degrade_on is 'device', but the steps {steps} run on the CPU: set degrade_on = 'cpu'")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"seed is {seed}: it must be in [0, 2**64)")
        self.source, self.policy, self.seed, self.on_corrupt = source, policy, seed, on_corrupt
        self.degrade_on = degrade_on
        self._pool: PixelPool | None = None
        self._short = False  # of shared memory

    def for_workers(self, workers: int, batch_size: int) -> PairDataset:
        """The same data set for one DataLoader, whose workers write into memory that is used again and again.

        Args:
            workers: of that loader; 0 needs no such memory.
            batch_size: pairs per batch.
        """
        shared = copy(self)
        shared._pool, shared._short = None, False
        slots = min(LIMIT, workers * PREFETCH + HELD)
        if workers:
            shared._pool, shared._short = open_pool(slots, (self._views_of(batch_size), SIDE, SIDE, 3))
        return shared

    def _views_of(self, pairs: int) -> int:
        return 2 * pairs if self.policy is not None and self.degrade_on == "cpu" else pairs

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, at: tuple[int, int]) -> ViewPair:
        """The pair of image `index` in `epoch`, at = (epoch, index), made on the CPU.

        Raises:
            DataError: a corrupt image with on_corrupt="error", or, with "skip", not one good image in the source.
        """
        batch = self._pairs([at], _new(1 if self.policy is None else 2))
        high = batch.high[0].permute(1, 2, 0).numpy()
        low = None if batch.low is None else batch.low[0].permute(1, 2, 0).numpy()
        return ViewPair(high, low, int(batch.labels[0]), batch.skipped)

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> PairBatch:
        """The pairs of many (epoch, index), in their order; DataError as for one."""
        make = self._pairs if self.degrade_on == "cpu" or self.policy is None else self._originals
        views, pool = self._views_of(len(samples)), self._pool
        if pool is None or get_worker_info() is None or views > pool.memory.shape[1]:
            return replace(make(samples, _new(views)), piped=self._short)
        slot = pool.take()
        if slot is None:
            return replace(make(samples, _new(views)), piped=self._short)
        return replace(make(samples, pool.memory[slot, :views]), slot=(pool.key, slot))

    def _pairs(self, samples: Sequence[tuple[int, int]], pixels: torch.Tensor) -> PairBatch:
        """Both views into `pixels` (2B, 112, 112, 3), originals first; single views: (B, ...)."""
        # All are decoded, then all degraded: in turns, the two push each other's code out of the core's cache.
        rows, size = pixels.numpy(), len(samples)
        labels, skipped, surplus = self._decode_all(samples, rows)
        params = self._params(samples)
        strengths = None if self.policy is None else strength(params)
        for row, view in enumerate(params.images()):
            image = rows[row]
            if self.policy is not None and strengths is not None:
                custom = self._custom_steps(self.policy, *samples[row]) if self.policy.steps else None
                rows[size + row] = apply(image, view, self.policy, custom)
                strengths[row] += custom.strength if custom else 0.0
            if view.flip_high:
                cv2.flip(image, 1, dst=image)  # OpenCV mirrors in place
        return PairBatch.of(pixels, self.policy is not None, labels, skipped, strength=strengths, surplus=surplus)

    def _custom_steps(self, policy: DegradationPolicy, epoch: int, index: int) -> CustomSteps:
        return CustomSteps(policy.steps, np.random.default_rng((self.seed, epoch, index)))

    def _originals(self, samples: Sequence[tuple[int, int]], pixels: torch.Tensor) -> PairBatch:
        """The images as they are decoded into `pixels` (B, 112, 112, 3), with what is to be done to them."""
        labels, skipped, surplus = self._decode_all(samples, pixels.numpy())
        params = self._params(samples)
        return PairBatch.of(pixels, False, labels, skipped, params.pack(), strength=strength(params), surplus=surplus)

    def _decode_all(self, samples: Sequence[tuple[int, int]], rows: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Decode into the first B rows; labels int64 (B,), how many images were passed over, and how many of those
        that were not carry surplus bytes."""
        found = [self._decode(rows[row], index) for row, (_, index) in enumerate(samples)]
        labels, skipped, surplus = zip(*found, strict=True)
        return np.array(labels, np.int64), sum(skipped), sum(surplus)

    def _params(self, samples: Sequence[tuple[int, int]]) -> ViewParams:
        epochs, indices = np.array(samples, np.int64).T
        return draw(SINGLE if self.policy is None else self.policy, uniforms(self.seed, epochs, indices))

    def _decode(self, out: np.ndarray, index: int) -> tuple[int, int, bool]:
        """Decode the first readable image from `index` on; its label, how many were passed over, and whether it
        carries surplus bytes."""
        for skipped in range(len(self.source)):
            candidate = (index + skipped) % len(self.source)
            try:
                encoded, label = self.source.read(candidate)
                surplus = decode_into(out, encoded, partial(self.source.where, candidate))
                return label, skipped, surplus
            except DataError as error:
                if self.on_corrupt == "error" or isinstance(error, CutError):
                    raise
                last = error
        raise DataError(f"not one of the {len(self.source)} images can be read; the last one: {last}") from last


class Originals(PairDataset):
    """The images as they are, by (epoch, index): not degraded, not mirrored.

    Args:
        source: the encoded faces.
        on_corrupt: as PairDataset has it.
    """

    def __init__(self, source: FaceSource, on_corrupt: str = "error") -> None:
        super().__init__(source, None, 0, on_corrupt)

    def _params(self, samples: Sequence[tuple[int, int]]) -> ViewParams:
        epochs, indices = np.array(samples, np.int64).T
        return draw(replace(SINGLE, flip_p=0.0), uniforms(self.seed, epochs, indices))


def _new(views: int) -> torch.Tensor:
    return torch.empty((views, SIDE, SIDE, 3), dtype=torch.uint8)


def worker_init(worker: int) -> None:
    """`worker_init_fn` of a DataLoader: OpenCV without threads, which would fight over the cores with other workers."""
    cv2.setNumThreads(0)


def collate(batch: Any) -> PairBatch:
    """`collate_fn` of a DataLoader: what `PairDataset` makes is a batch already."""
    return batch

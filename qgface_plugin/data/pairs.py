"""Two views of every image, and how they become a batch.

Views are named: `high` is the original, `low` the degraded one. B pairs a batch, 112 x 112 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch.utils.data import Dataset

from qgface_plugin.data.degrade import degrade, flip
from qgface_plugin.data.images import decode
from qgface_plugin.data.policy import DegradationPolicy
from qgface_plugin.errors import ConfigError, DataError

SINGLE_FLIP_P = 0.5  # how often a single view is mirrored
INDEX_BITS = 40  # a data set of 10**12 images; leaves 24 bits, 16 million, to the epoch


class FaceSource(Protocol):
    """Encoded faces with labels; `records.FaceRecords` and `folders.FaceFolder` are such."""

    num_classes: int

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[memoryview | bytes, int]:
        """Encoded image and label; DataError when the image cannot be read."""

    def where(self, index: int) -> str:
        """How messages name the image."""


class Pair(NamedTuple):
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


@dataclass(frozen=True)
class PairBatch:
    """B pairs.

    Attributes:
        high, low: uint8 (B, 3, 112, 112), RGB, in `channels_last` memory: pixels are copied as they lie, never
            transposed; low is None in single-view training.
        labels: int64 (B,).
        skipped: corrupt images that were replaced while this batch was made.
    """

    high: torch.Tensor
    low: torch.Tensor | None
    labels: torch.Tensor
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> PairBatch:
        """The same batch in page-locked memory, from which copies to a GPU overlap with its work."""
        return self._each(torch.Tensor.pin_memory)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PairBatch:
        low = None if self.low is None else change(self.low)
        return PairBatch(change(self.high), low, change(self.labels), self.skipped)


class PairDataset(Dataset):
    """Pairs by (epoch, index). An image is decoded once for both its views; each view is mirrored on its own.

    Everything random in a pair follows from (seed, epoch, index), so any number of workers and ranks see the same.

    Args:
        source: the encoded faces.
        policy: of the degraded view; `flip_p` is also the original view's. None: single views, the originals only.
        seed: in [0, 2**64).
        on_corrupt: "error" raises what the source or the decoder says of a corrupt image. "skip" takes the next good
            image in the source's order instead, with that image's own label, and counts in `Pair.skipped`.

    Raises:
        ConfigError: a seed or on_corrupt that is not allowed.
    """

    def __init__(
        self, source: FaceSource, policy: DegradationPolicy | None, seed: int, on_corrupt: str = "error"
    ) -> None:
        if on_corrupt not in ("error", "skip"):
            raise ConfigError(f"on_corrupt is {on_corrupt!r}: it must be 'error' or 'skip'")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"seed is {seed}: it must be in [0, 2**64)")
        self.source, self.policy, self.seed, self.on_corrupt = source, policy, seed, on_corrupt

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, at: tuple[int, int]) -> Pair:
        """The pair of image `index` in `epoch`, at = (epoch, index).

        Raises:
            DataError: a corrupt image with on_corrupt="error", or, with "skip", not one good image in the source.
        """
        epoch, index = at
        image, label, skipped = self._good_image(index)
        rng = pair_rng(self.seed, epoch, index)
        flip_p = SINGLE_FLIP_P if self.policy is None else self.policy.flip_p
        high = flip(image) if rng.random() < flip_p else image
        low = None if self.policy is None else degrade(image, self.policy, rng)
        return Pair(high, low, label, skipped)

    def _good_image(self, index: int) -> tuple[np.ndarray, int, int]:
        """The first readable image from `index` on, its label, and how many were passed over."""
        for skipped in range(len(self.source)):
            candidate = (index + skipped) % len(self.source)
            try:
                encoded, label = self.source.read(candidate)
                return decode(encoded, self.source.where(candidate)), label, skipped
            except DataError as error:
                if self.on_corrupt == "error":
                    raise
                last = error
        raise DataError(f"not one of the {len(self.source)} images can be read; the last one: {last}") from last


def pair_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one pair: Philox with the key (seed, epoch, index), so no two pairs share a stream."""
    return np.random.Generator(np.random.Philox(_Key(seed, (epoch << INDEX_BITS) | index)))


class _Key(ISeedSequence):
    """Hands its two words to Philox as they are; hashing them as SeedSequence does costs five times as much."""

    def __init__(self, *words: int) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: type = np.uint32) -> np.ndarray:
        assert n_words == len(self.words), "Philox asks for its key only"
        return np.array(self.words, dtype=dtype)


def worker_init(worker: int) -> None:
    """`worker_init_fn` of a DataLoader: OpenCV without threads, which would fight over the cores with other workers."""
    cv2.setNumThreads(0)


def collate(pairs: Sequence[Pair]) -> PairBatch:
    """A batch of pairs, in their order; each view is copied once."""
    # One block for both views: the allocator keeps one and reuses its pages, where it would give two back each time.
    lows = [pair.low for pair in pairs if pair.low is not None]
    views = torch.from_numpy(np.stack([pair.high for pair in pairs] + lows)).permute(0, 3, 1, 2)
    high, low = views[: len(pairs)], views[len(pairs) :] if lows else None  # (B, 3, h, w) each
    labels = torch.tensor([pair.label for pair in pairs], dtype=torch.int64)
    return PairBatch(high, low, labels, sum(pair.skipped for pair in pairs))


def concatenate(batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Both views as one batch: images uint8 (2B, 3, 112, 112), originals first, and labels (2B,). Single views: B."""
    if batch.low is None:
        return batch.high, batch.labels
    return torch.cat([batch.high, batch.low]), torch.cat([batch.labels, batch.labels])


def normalise(images: torch.Tensor) -> torch.Tensor:
    """float32 (x - 127.5) / 127.5 in [-1, 1], on the device and in the memory format of `images`."""
    return images.to(torch.float32).sub(127.5).div_(127.5)

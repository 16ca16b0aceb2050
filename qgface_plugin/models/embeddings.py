"""Embeddings of images, with those of their mirror images for flip fusion. N images, d = size of a feature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..utils.errors import ON_CORRUPT, ConfigError, DataError

if TYPE_CHECKING:  # PyTorch is imported when a model is run: reading saved features and --help do without
    import torch
    from torch import nn


@dataclass(frozen=True)
class Embeddings:
    """Raw features (before l2 normalisation) of N images and of their mirror images.

    Both are kept because the protocols differ in what they make of them: with or without the mirror image, with or
    without the norm.

    Attributes:
        original: (N, d) float32, of the images as they are.
        mirrored: (N, d) float32, of the mirror images.

    Example:
        >>> embeddings = Embeddings(np.array([[3.0, 4.0]], np.float32), np.array([[1.0, 0.0]], np.float32))
        >>> embeddings.features.tolist(), embeddings.norms.tolist(), embeddings.mean_norm
        ([[4.0, 4.0]], [5.0], 3.0)
    """

    original: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.original)

    @property
    def features(self) -> np.ndarray:
        """Flip fusion: the sum of both raw features, (N, d) float32, not normalised."""
        return self.original + self.mirrored

    @property
    def norms(self) -> np.ndarray:
        """Norm of the raw feature of the image as it is: its quality, (N,) float32."""
        return np.linalg.norm(self.original, axis=1)

    @property
    def mean_norm(self) -> float:
        """Mean norm over images and mirror images; arcface_torch logs it as XNorm."""
        both = np.concatenate([self.norms, np.linalg.norm(self.mirrored, axis=1)])
        return float(both.mean(dtype=np.float64))


def embed(
    backbone: nn.Module,
    images: np.ndarray,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    progress: str | None = None,
) -> Embeddings:
    """The embeddings of images, in evaluation mode and without gradient.

    Images travel to the device as uint8 and are normalised and mirrored there.

    Args:
        backbone: (B, 3, 112, 112) float32 in [-1, 1] -> (B, d), already on `device`; each of its modules is put back
            into the mode it was in. Of a DistributedDataParallel model pass `.module`: its own forward waits for the
            other ranks.
        images: uint8 (N, 112, 112, 3) RGB.
        batch_size: images per forward pass.
        device: of the backbone.
        progress: label of a progress bar; None shows none.

    Raises:
        DataError: the images are not what they should be.
        ConfigError: a batch size below 1.

    Example:
        >>> from torch import nn
        >>> backbone = nn.Sequential(nn.AvgPool2d(112), nn.Flatten())  # mean colour
        >>> embed(backbone, np.full((1, 112, 112, 3), 255, np.uint8)).original.tolist()
        [[1.0, 1.0, 1.0]]
    """
    import torch

    from ..data.pair_dataset import normalise

    check_images(images)
    check_batch_size(batch_size)
    batches = []
    starts = range(0, len(images), batch_size)
    with evaluating(backbone), torch.inference_mode():
        for start in tqdm(starts, desc=progress, unit="batch", disable=progress is None):
            pixels = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])).to(device)
            batch = normalise(pixels.permute(0, 3, 1, 2))  # (B, 3, 112, 112)
            both = torch.stack([backbone(batch), backbone(batch.flip(3))])  # (2, B, d)
            batches.append(both.float().cpu())
    original, mirrored = torch.cat(batches, dim=1).numpy()
    return Embeddings(original, mirrored)


def check_images(images: np.ndarray) -> None:
    """Raise DataError unless `images` are uint8 (N, 112, 112, 3) with at least one image."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (112, 112, 3) or len(images) == 0:
        raise DataError(
            f"images are {images.dtype} {images.shape}: embed takes uint8 (N, 112, 112, 3) RGB with at least one image"
        )


def check_reading(batch_size: int, workers: int, on_corrupt: str) -> None:
    """Refuse arguments that files cannot be read and embedded with.

    Raises:
        ConfigError: one of them is out of range.
    """
    check_batch_size(batch_size)
    if workers < 1 or on_corrupt not in ON_CORRUPT:
        raise ConfigError(f"workers is {workers} and on_corrupt is {on_corrupt!r}: at least 1, and 'error' or 'skip'")


def check_batch_size(batch_size: int) -> None:
    """Raise ConfigError for a batch size below 1."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Context with `model` in evaluation mode; afterwards every module is in the mode it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training

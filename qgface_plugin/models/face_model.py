"""Face model: what the evaluation needs of an encoder, whatever it runs on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from .embeddings import Embeddings

COLORS = ("rgb", "bgr")


@dataclass(frozen=True)
class Scale:
    """What is done to pixels of 0 to 255 before a model gets them: (pixels - mean) / std.

    Attributes:
        mean: one number, or three in the order of the model's channels.
        std: as many, above 0.

    Example:
        >>> Scale.of([127.5], [128.0])
        Scale(mean=(127.5,), std=(128.0,))
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Scale:
        """Checked numbers, as `--mean` and `--std` give them.

        Raises:
            ConfigError: not one or three numbers, one that is not finite, or a std that is not above 0.
        """
        for name, values in (("--mean", mean), ("--std", std)):
            if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
                raise ConfigError(f"{name} is {' '.join(map(str, values))}: it is one number, or one for each channel")
        if min(std) <= 0:
            raise ConfigError(f"--std is {' '.join(map(str, std))}: pixels are divided by it, so it is above 0")
        return cls(tuple(map(float, mean)), tuple(map(float, std)))

    def __str__(self) -> str:
        return f"mean {_numbers(self.mean)}, std {_numbers(self.std)}"


USUAL = Scale((127.5,), (127.5,))  # of a graph that does nothing itself: InsightFace's
NOTHING = Scale((0.0,), (1.0,))


class FaceModel(Protocol):
    """An encoder of aligned faces to raw features, whose norms are kept.

    Attributes:
        name: for tables.
        dim: d, numbers in a feature.

    Example:
        >>> from qgface_plugin.models.embeddings import Embeddings
        >>> class MeanColour:
        ...     name, dim = "mean colour", 3
        ...
        ...     def embed(self, images, batch_size=64, progress=None):
        ...         features = images.mean((1, 2), dtype=np.float32)
        ...         return Embeddings(features, features)
        >>> model: FaceModel = MeanColour()
        >>> model.embed(np.zeros((2, 112, 112, 3), np.uint8)).original.shape
        (2, 3)
    """

    name: str
    dim: int

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        """Raw features of images and of their mirror images.

        Args:
            images: uint8 (N, 112, 112, 3), RGB always; a model that wants BGR turns them itself.
            batch_size: images per forward pass.
            progress: label of a progress bar; None shows none.

        Raises:
            DataError: images that are not what they should be, or features that are not finite.
            ConfigError: a batch size below 1.
        """


def check_color(color: str) -> str:
    """Return `color` when it is one of COLORS; else raise ConfigError."""
    if color not in COLORS:
        raise ConfigError(f"color is {color!r}: the order of channels that the model was trained on is 'rgb' or 'bgr'")
    return color


def as_the_model_wants(images: np.ndarray, color: str) -> np.ndarray:
    """RGB images with their channels in the order `color`: a view, no copy."""
    return images[..., ::-1] if color == "bgr" else images


def check_features(embeddings: Embeddings, name: str) -> Embeddings:
    """Return `embeddings` when every number is finite; else raise DataError that counts the images of model `name`."""
    finite = np.isfinite(embeddings.original).all(axis=1) & np.isfinite(embeddings.mirrored).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataError(
            f"{name} gives features that are not finite (NaN or infinite) for {len(bad)} of {len(finite)} images, "
            f"first image {bad[0]}: its weights are damaged or from a training that diverged"
        )
    return embeddings


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.5g}" for value in values)

"""What the evaluation needs of a face model, whatever it runs on."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..utils.errors import ConfigError, DataError
from .embeddings import Embeddings

COLORS = ("rgb", "bgr")


class FaceModel(Protocol):
    """Aligned face images -> raw features, whose norms are kept."""

    name: str  # for tables
    dim: int  # d, numbers in a feature

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        """Raw features of `images`, uint8 (N, 112, 112, 3) RGB, and of their mirror images, float32 (N, d) each.

        Images are RGB always; a model that wants BGR turns them itself. progress: label of a progress bar, None shows
        none. Raises DataError for images that are not what they should be and for features that are not finite,
        ConfigError for a batch size below 1.
        """


def check_color(color: str) -> str:
    """`color` as it is, when it is one of COLORS; else ConfigError."""
    if color not in COLORS:
        raise ConfigError(f"color is {color!r}: the order of channels that the model was trained on is 'rgb' or 'bgr'")
    return color


def as_the_model_wants(images: np.ndarray, color: str) -> np.ndarray:
    """RGB images with their channels in the order `color`: a view, no copy."""
    return images[..., ::-1] if color == "bgr" else images


def check_features(embeddings: Embeddings, name: str) -> Embeddings:
    """`embeddings` as they are, when every number is finite; else DataError that counts the images."""
    finite = np.isfinite(embeddings.original).all(axis=1) & np.isfinite(embeddings.mirrored).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataError(
            f"{name} gives features that are not finite (NaN or infinite) for {len(bad)} of {len(finite)} images, "
            f"first image {bad[0]}: its weights are damaged or from a training that diverged"
        )
    return embeddings

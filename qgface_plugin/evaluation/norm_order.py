"""Norm order: whether the norm of a feature tells the quality of its image, from degraded copies of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..config.degradation import OURS
from ..data.degradation.cpu import degrade
from ..utils.errors import DataError
from .metrics.verification import auc

if TYPE_CHECKING:
    from ..models import FaceModel

BLUR = replace(OURS, crop_p=0.0, photometric_p=0.0, rotation_p=0.0, flip_p=0.0)
"""The paper's degradation without what moves or recolours the face: scaled down to U(0.1, 0.5), JPEG, scaled up."""


@dataclass(frozen=True)
class NormStatistics:
    """Statistics of the norms of raw features.

    Attributes:
        images: number of norms.
        mean: their mean.
        std: their standard deviation (of the population).
        p5: 5th percentile.
        median: 50th percentile.
        p95: 95th percentile.
    """

    images: int
    mean: float
    std: float
    p5: float
    median: float
    p95: float


@dataclass(frozen=True)
class NormOrder:
    """How the norms of images compare with those of their degraded copies.

    Attributes:
        images: number of images.
        share: of the images whose norm is above its degraded copy's, equal ones half; chance is 0.5.
        auc: the same for any image against any degraded copy: what one threshold for all images can do.
        sharp: of the images.
        degraded: of the copies.

    Example:
        >>> order = compare_norms(np.full(100, 20.0), np.full(100, 15.0))
        >>> order.share, order.auc, order.verdict
        (1.0, 1.0, 'follows quality')
    """

    images: int
    share: float
    auc: float
    sharp: NormStatistics
    degraded: NormStatistics

    @property
    def verdict(self) -> str:
        """What the two numbers mean for a norm as quality score.

        "upside down" or "tells nothing": the share is below chance, or within two standard errors of it. "weak": it
        is above, but the auc is nearer to chance than to 1: norms fall with quality, and differ more between faces.
        "follows quality": else.
        """
        if abs(self.share - 0.5) <= 2 * 0.5 / self.images**0.5:
            return "tells nothing"
        if self.share < 0.5:
            return "upside down"
        return "follows quality" if self.auc >= 0.75 else "weak"


def norm_statistics(norms: np.ndarray) -> NormStatistics:
    """Mean, deviation and percentiles of `norms` (N,).

    Raises:
        DataError: no norm, or norms that are not finite.

    Example:
        >>> norm_statistics(np.array([1.0, 2.0, 3.0])).median
        2.0
    """
    norms = np.asarray(norms, dtype=np.float64)
    if norms.ndim != 1 or len(norms) == 0 or not np.isfinite(norms).all():
        raise DataError(f"norms are {norms.shape}: give at least one, all of them finite")
    p5, median, p95 = np.percentile(norms, (5, 50, 95))
    return NormStatistics(len(norms), float(norms.mean()), float(norms.std()), float(p5), float(median), float(p95))


def compare_norms(sharp: np.ndarray, degraded: np.ndarray) -> NormOrder:
    """Compare the norms (N,) of images with those of their degraded copies, in the same order.

    Raises:
        DataError: unequal numbers, no norm, or norms that are not finite.

    Example:
        >>> compare_norms(np.array([3.0, 2.0]), np.array([1.0, 2.0])).share
        0.75
    """
    if np.shape(sharp) != np.shape(degraded):
        raise DataError(f"{np.shape(sharp)} norms of images and {np.shape(degraded)} of copies: one copy per image")
    both = norm_statistics(sharp), norm_statistics(degraded)
    share = float(np.mean(sharp > degraded) + np.mean(sharp == degraded) / 2)
    labels = np.repeat([True, False], len(sharp))
    return NormOrder(len(sharp), share, auc(np.concatenate([sharp, degraded]), labels), *both)


def norm_order(
    model: FaceModel,
    images: np.ndarray,
    degraded: np.ndarray | None = None,
    batch_size: int = 64,
    progress: str | None = None,
) -> NormOrder:
    """Embed `images` and their degraded copies and compare the norms.

    Args:
        model: the encoder.
        images: uint8 (N, 112, 112, 3) RGB, sharp ones.
        degraded: the same images as bad as those that the score has to find; None: `degraded_copies(images)`.
        batch_size: images per forward pass.
        progress: label of a progress bar; None shows none.

    Raises:
        DataError: as `FaceModel.embed`, and for unequal numbers.
    """
    degraded = degraded_copies(images) if degraded is None else degraded
    if len(degraded) != len(images):
        raise DataError(f"{len(images)} images and {len(degraded)} degraded copies: give one copy per image")
    norms = (model.embed(view, batch_size, progress).norms for view in (images, degraded))
    return compare_norms(*norms)


def degraded_copies(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """A copy of each image (N, h, w, 3), degraded by BLUR, the same for the same seed."""
    return np.stack([degrade(image, BLUR, np.random.default_rng((seed, i))) for i, image in enumerate(images)])

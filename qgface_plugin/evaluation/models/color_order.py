"""Is the model fed with the channels in the order it was trained on? The better of the two orders tells."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from ..metrics import auc, pair_distances
from .face_model import FaceModel

LOGGER = logging.getLogger(__name__)
OTHER = {"rgb": "bgr", "bgr": "rgb"}


@dataclass(frozen=True)
class ColorOrder:
    """AUC of a sample of pairs with the channels as they are given to the model, and in the other order."""

    color: str  # the order that the model was given
    pairs: int
    auc: float
    other_auc: float
    warning: str | None


def check_color_order(
    model: FaceModel, images: np.ndarray, same: np.ndarray, pairs: int = 256, batch_size: int = 64
) -> ColorOrder:
    """Verify a sample of pairs in both orders of channels, and warn in the log when the other one is better.

    images: uint8 (2N, 112, 112, 3) RGB, 2i and 2i + 1 a pair; same: bool (N,); at most `pairs` pairs are taken, evenly
    spread over the genuine and over the impostor ones. The warning needs a difference of more than two standard errors
    of the AUC. Raises DataError when there are not both kinds of pairs.
    """
    same = np.asarray(same)
    if len(images) != 2 * len(same):
        raise DataError(f"{len(images)} images for {len(same)} pairs; a pair has exactly two images")
    kinds = np.flatnonzero(same), np.flatnonzero(~same)
    chosen = np.sort(np.concatenate([_spread(kind, pairs // 2) for kind in kinds]))
    rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel()
    sample, labels = images[rows], same[chosen]
    given, other = (
        auc(-pair_distances(model.embed(view, batch_size).features), labels) for view in (sample, sample[..., ::-1])
    )
    color = getattr(model, "color", "rgb")
    warning = None
    if other - given > 2 * _standard_error(other, int(labels.sum()), int((~labels).sum())):
        warning = (
            f"{model.name} verifies better with its channels as {OTHER[color].upper()}: AUC {other:.3f} against "
            f"{given:.3f} as {color.upper()} on {len(chosen)} pairs. It was probably trained on {OTHER[color].upper()} "
            f"images: use --color {OTHER[color]}"
        )
        LOGGER.warning(warning)
    return ColorOrder(color, len(chosen), given, other, warning)


def _spread(numbers: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of them, evenly spread."""
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int))]


def _standard_error(area: float, genuine: int, impostors: int) -> float:
    """Of an AUC (Hanley and McNeil 1982, exponential approximation)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (genuine - 1) * (q1 - area**2) + (impostors - 1) * (q2 - area**2)
    return float(np.sqrt(max(variance, 0) / (genuine * impostors)))

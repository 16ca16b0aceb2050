"""Verification numbers from features or scores. Pure NumPy; N pairs, fractions in [0, 1], never percent.

Every function raises DataError instead of counting a value that is not finite, or a rate of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...utils.errors import DataError

THRESHOLDS = np.arange(0, 4, 0.01)  # squared euclidean distance of unit vectors is in [0, 4]
THRESHOLDS.setflags(write=False)
BLOCK = 512  # rows in float64 at a time, an even number: they stay in the processor's cache


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy of k-fold verification: mean and standard deviation over the folds, and each fold's own numbers."""

    mean: float
    std: float
    threshold: float  # mean of the folds' thresholds, squared euclidean distance
    accuracies: np.ndarray  # (folds,)
    thresholds: np.ndarray  # (folds,)


@dataclass(frozen=True)
class Roc:
    """All points of the ROC curve, from (0, 0) to (1, 1): one for each distinct score, counts of accepted pairs."""

    false_accepts: np.ndarray  # int64, ascending
    true_accepts: np.ndarray  # int64, ascending

    @property
    def far(self) -> np.ndarray:
        return self.false_accepts / self.false_accepts[-1]

    @property
    def tar(self) -> np.ndarray:
        return self.true_accepts / self.true_accepts[-1]

    @property
    def auc(self) -> float:
        """Area under the curve by trapezoids: ties between an impostor and a genuine pair count one half."""
        steps = np.diff(self.false_accepts)
        area = np.sum(steps * (self.true_accepts[1:] + self.true_accepts[:-1]))  # exact: integers
        return float(area / 2 / self.false_accepts[-1] / self.true_accepts[-1])

    def corners(self) -> Roc:
        """The curve as scikit-learn's `roc_curve` returns it: without points half way along a straight stretch."""
        # The point (0, 0) takes no part, as there; so the first and the last of the others always stay.
        bends = (np.diff(self.false_accepts[1:], 2) != 0) | (np.diff(self.true_accepts[1:], 2) != 0)
        stays = np.concatenate([[True, True], bends, [True]]) if len(self.false_accepts) > 3 else slice(None)
        return Roc(self.false_accepts[stays], self.true_accepts[stays])


@dataclass(frozen=True)
class TarAtFar:
    """TAR at one FAR, in the two ways of reading it off a ROC curve of which only some FARs are points."""

    far: float
    nearest: float  # at the point whose FAR is nearest, above or below, as insightface's tools report it
    strict: float  # the largest TAR with FAR <= far


def pair_distances(features: np.ndarray) -> np.ndarray:
    """Squared euclidean distances (N,) float64 of the l2-normalised rows 2i and 2i + 1 of features (2N, d).

    A row of zeros stays one (distance 1 to any unit vector), as in arcface_torch. Raises DataError.
    """
    features = np.asarray(features)
    if features.ndim != 2 or len(features) % 2 or len(features) == 0:
        raise DataError(f"features are {features.shape}: pairs need (2N, d), rows 2i and 2i + 1 a pair")
    _check_finite(features, "features", "row")
    distances = np.empty(len(features) // 2)
    for start in range(0, len(features), BLOCK):
        unit = features[start : start + BLOCK].astype(np.float64)
        norms = np.sqrt(np.einsum("nd,nd->n", unit, unit))
        norms[norms == 0] = 1
        unit /= norms[:, None]
        difference = unit[0::2] - unit[1::2]
        distances[start // 2 : start // 2 + len(difference)] = np.einsum("nd,nd->n", difference, difference)
    return distances


def kfold_accuracy(
    distances: np.ndarray, same: np.ndarray, folds: int = 10, thresholds: np.ndarray = THRESHOLDS
) -> FoldAccuracy:
    """Accuracy on each fold at the threshold that is best on the other folds (LFW's protocol, as arcface_torch has it).

    distances (N,), same (N,) bool. A pair is accepted when its distance is strictly less than the threshold; the
    lowest of equally good thresholds is taken; folds are contiguous, the first N % folds of them one pair larger.
    thresholds: ascending grid. Raises DataError.
    """
    distances, same = _checked(distances, same, "distances")
    pairs = len(same)
    if not 2 <= folds <= pairs:
        raise DataError(f"{pairs} pairs cannot be split into {folds} folds: give 2 to {pairs} folds, or more pairs")
    sizes = np.full(folds, pairs // folds)
    sizes[: pairs % folds] += 1
    fold = np.repeat(np.arange(folds), sizes)
    # A pair is accepted from the first threshold above its distance on: one histogram a fold, then cumulative sums.
    cells = len(thresholds) + 1
    cell = fold * cells + np.searchsorted(thresholds, distances, side="right")
    first = np.bincount(cell, weights=np.where(same, 1.0, -1.0), minlength=folds * cells).reshape(folds, cells)
    impostors = np.bincount(fold, weights=~same, minlength=folds)
    right = impostors[:, None] + np.cumsum(first, axis=1)[:, :-1]  # (folds, thresholds) pairs judged rightly
    best = np.argmax(right.sum(axis=0) - right, axis=1)
    accuracies = right[np.arange(folds), best] / sizes
    chosen = thresholds[best]
    return FoldAccuracy(float(accuracies.mean()), float(accuracies.std()), float(chosen.mean()), accuracies, chosen)


def roc(scores: np.ndarray, same: np.ndarray) -> Roc:
    """The ROC curve of scores (N,), higher meaning more alike, and same (N,) bool. Equal scores are accepted together.

    Raises DataError.
    """
    scores, same = _checked(scores, same, "scores")
    order = np.argsort(-scores, kind="stable")
    scores, accepted = scores[order], np.cumsum(same[order], dtype=np.int64)
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last pair of each run of equal scores
    true_accepts = accepted[last]
    return Roc(np.append(0, last + 1 - true_accepts), np.append(0, true_accepts))


def tar_at_far(scores: np.ndarray | Roc, same: np.ndarray | None, fars: Sequence[float]) -> list[TarAtFar]:
    """TAR at each of `fars` (in [0, 1]), at the nearest point of the curve and strictly.

    scores, same: as for `roc`; or a Roc and None. `nearest` repeats insightface's `ijb_evals.py`: among the corners of
    the curve, and of two points equally near the one with more accepted pairs. Raises DataError.
    """
    curve = scores if isinstance(scores, Roc) else roc(scores, same)
    corners = curve.corners()
    falling_far, falling_tar = corners.far[::-1], corners.tar[::-1]
    results = []
    for far in fars:
        if not 0 <= far <= 1:
            raise DataError(f"FAR {far!r} is not a fraction: it must be in [0, 1]")
        nearest = falling_tar[np.argmin(np.abs(falling_far - far))]
        strict = curve.tar[np.searchsorted(curve.far, far, side="right") - 1]
        results.append(TarAtFar(float(far), float(nearest), float(strict)))
    return results


def auc(scores: np.ndarray, same: np.ndarray) -> float:
    """Area under the ROC curve: the share of (genuine, impostor) pairs in the right order. Raises DataError."""
    return roc(scores, same).auc


def _checked(values: np.ndarray, same: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """`values` and `same` as arrays that go together, with both kinds of pairs among them; else DataError."""
    values, same = np.asarray(values), np.asarray(same)
    if values.ndim != 1 or same.shape != values.shape or same.dtype != bool:
        raise DataError(f"{what} are {values.shape} and same is {same.dtype} {same.shape}: give (N,) and bool (N,)")
    _check_finite(values, what, "pair")
    genuine = int(same.sum())
    if genuine in (0, len(same)):
        raise DataError(f"{genuine} of {len(same)} pairs are genuine: both kinds are needed to verify anything")
    return values, same


def _check_finite(values: np.ndarray, what: str, unit: str) -> None:
    finite = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataError(f"{what} are not finite in {len(bad)} of {len(values)} {unit}s, first {unit} {bad[0]}")

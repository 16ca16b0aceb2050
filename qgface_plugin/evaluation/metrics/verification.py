"""Verification metrics: k-fold accuracy, ROC curves and TAR@FAR. N pairs; fractions in [0, 1], never percent.

Every function raises DataError instead of counting a value that is not finite, or a rate of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import numpy as np

from ...utils.errors import DataError

THRESHOLDS = np.arange(0, 4, 0.01)  # squared euclidean distance of unit vectors is in [0, 4]
THRESHOLDS.setflags(write=False)
BLOCK = 512  # rows in float64 at a time, an even number: they stay in the processor's cache


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy of k-fold verification: mean and standard deviation over the folds, and the numbers of each fold.

    Attributes:
        mean: fraction of the pairs judged rightly, mean over the folds.
        std: its standard deviation over the folds.
        threshold: mean of the folds' thresholds, squared euclidean distance.
        accuracies: (folds,) fractions.
        thresholds: (folds,) squared euclidean distances.
    """

    mean: float
    std: float
    threshold: float
    accuracies: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class TarAtFar:
    """TAR at one FAR, by the two rules of reading it off a ROC curve of which only some FARs are points.

    Attributes:
        far: the FAR that was asked for.
        nearest: TAR at the point whose FAR is nearest, above or below, as insightface's tools report it.
        strict: the largest TAR with FAR <= far.
    """

    far: float
    nearest: float
    strict: float


class Curve(Protocol):
    """What `tar_at_far` reads: `Roc` holds every point, `sorted_scores.SortedScores` counts them when asked."""

    @property
    def corners(self) -> Roc:
        """The curve without points half way along a straight stretch."""

    def strict_tar(self, far: float) -> float:
        """The largest TAR with FAR <= far."""


@dataclass(frozen=True)
class Roc:
    """A ROC curve from (0, 0) to (1, 1), as counts of accepted pairs, one point per distinct score.

    Attributes:
        false_accepts: int64 (points,), ascending.
        true_accepts: int64 (points,), ascending.
        thresholds: float64 (points,), descending from inf: the score from which on pairs are accepted. It is the
            lowest accepted score, as scikit-learn's `roc_curve` gives it.

    Example:
        >>> curve = roc(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
        >>> curve.thresholds.tolist()
        [inf, 0.9, 0.8, 0.7, 0.1]
        >>> curve.far.tolist(), curve.tar.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
        >>> curve.auc
        0.75
    """

    false_accepts: np.ndarray
    true_accepts: np.ndarray
    thresholds: np.ndarray

    @property
    def far(self) -> np.ndarray:
        """False accept rate of each point, (points,) float64."""
        return self.false_accepts / self.false_accepts[-1]

    @property
    def tar(self) -> np.ndarray:
        """True accept rate of each point, (points,) float64."""
        return self.true_accepts / self.true_accepts[-1]

    @property
    def auc(self) -> float:
        """Area under the curve by trapezoids: ties between an impostor and a genuine pair count one half."""
        steps = np.diff(self.false_accepts)
        area = np.sum(steps * (self.true_accepts[1:] + self.true_accepts[:-1]))  # exact: integers
        return float(area / 2 / self.false_accepts[-1] / self.true_accepts[-1])

    @cached_property
    def corners(self) -> Roc:
        """The curve as scikit-learn's `roc_curve` returns it: without points half way along a straight stretch."""
        # The point (0, 0) takes no part, as there; so the first and the last of the others always stay.
        bends = (np.diff(self.false_accepts[1:], 2) != 0) | (np.diff(self.true_accepts[1:], 2) != 0)
        stays = np.concatenate([[True, True], bends, [True]]) if len(self.false_accepts) > 3 else slice(None)
        return Roc(self.false_accepts[stays], self.true_accepts[stays], self.thresholds[stays])

    def strict_tar(self, far: float) -> float:
        """The largest TAR with FAR <= far."""
        return float(self.tar[np.searchsorted(self.far, far, side="right") - 1])


def pair_distances(features: np.ndarray) -> np.ndarray:
    """Squared euclidean distances of the l2-normalised features of each pair.

    Args:
        features: (2N, d), rows 2i and 2i + 1 a pair. A row of zeros stays one (distance 1 to any unit vector), as in
            arcface_torch.

    Returns:
        (N,) float64 in [0, 4].

    Raises:
        DataError: another shape, no pair, or features that are not finite.

    Example:
        >>> pair_distances(np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [5.0, 0.0]])).tolist()
        [2.0, 0.0]
    """
    differences = (first - second for first, second in _unit_pairs(features))
    return np.concatenate([np.einsum("nd,nd->n", difference, difference) for difference in differences])


def pair_cosines(features: np.ndarray) -> np.ndarray:
    """Cosines of each pair: what a threshold is compared with.

    Args:
        features: (2N, d), rows 2i and 2i + 1 a pair. A row of zeros has cosine 0 with everything.

    Returns:
        (N,) float64 in [-1, 1].

    Raises:
        DataError: as `pair_distances`.

    Example:
        >>> pair_cosines(np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [5.0, 0.0]])).tolist()
        [0.0, 1.0]
    """
    cosines = [np.einsum("nd,nd->n", first, second) for first, second in _unit_pairs(features)]
    return np.concatenate(cosines).clip(-1, 1)


def _unit_pairs(features: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First and second rows (n, d) of the pairs, l2-normalised, float64, a block at a time. A row of zeros stays."""
    features = np.asarray(features)
    if features.ndim != 2 or len(features) % 2 or len(features) == 0:
        raise DataError(f"features are {features.shape}: pairs need (2N, d), rows 2i and 2i + 1 a pair")
    _check_finite(features, "features", "row")
    for start in range(0, len(features), BLOCK):
        unit = features[start : start + BLOCK].astype(np.float64)
        norms = np.sqrt(np.einsum("nd,nd->n", unit, unit))
        norms[norms == 0] = 1
        unit /= norms[:, None]
        yield unit[0::2], unit[1::2]


def kfold_accuracy(
    distances: np.ndarray, same: np.ndarray, folds: int = 10, thresholds: np.ndarray = THRESHOLDS
) -> FoldAccuracy:
    """Accuracy on each fold at the threshold that is best on the other folds (LFW's protocol, as arcface_torch has it).

    A pair is accepted when its distance is strictly less than the threshold; the lowest of equally good thresholds is
    taken; folds are contiguous, the first N % folds of them one pair larger.

    Args:
        distances: (N,) of the pairs.
        same: (N,) bool, True for a genuine pair.
        folds: 2 to N.
        thresholds: ascending grid.

    Raises:
        DataError: shapes that do not fit, distances that are not finite, pairs of one kind only, fewer pairs than
            folds.

    Example:
        >>> distances = np.array([0.4, 1.5, 0.9, 1.8, 1.2, 1.7])
        >>> accuracy = kfold_accuracy(distances, np.array([True, False, True, False, True, False]), folds=3)
        >>> accuracy.accuracies.tolist()
        [1.0, 1.0, 0.5]
    """
    distances, same = _checked(distances, same, "distances")
    pairs = len(same)
    if not 2 <= folds <= pairs:
        raise DataError(f"{pairs} pairs cannot be split into {folds} folds: give 2 to {pairs} folds, or more pairs")
    sizes = np.full(folds, pairs // folds)
    sizes[: pairs % folds] += 1
    fold = np.repeat(np.arange(folds), sizes)
    # A pair is accepted from the first threshold above its distance on: one histogram per fold, then cumulative sums.
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
    """The ROC curve with all its points. Equal scores are accepted together.

    Args:
        scores: (N,), higher meaning more alike.
        same: (N,) bool, True for a genuine pair.

    Raises:
        DataError: shapes that do not fit, scores that are not finite, pairs of one kind only.

    Example:
        >>> roc(np.array([0.9, 0.8, 0.8]), np.array([True, False, True])).true_accepts.tolist()
        [0, 1, 2]
    """
    scores, same = _checked(scores, same, "scores")
    order = np.argsort(-scores, kind="stable")
    scores, accepted = scores[order], np.cumsum(same[order], dtype=np.int64)
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last pair of each run of equal scores
    true_accepts = accepted[last]
    thresholds = np.append(np.inf, scores[last])
    return Roc(np.append(0, last + 1 - true_accepts), np.append(0, true_accepts), thresholds)


def tar_at_far(scores: np.ndarray | Curve, same: np.ndarray | None, fars: Sequence[float]) -> list[TarAtFar]:
    """TAR at each FAR, at the nearest point of the curve and strictly.

    `nearest` repeats insightface's `ijb_evals.py`: among the corners of the curve, and of two points equally near the
    one with more accepted pairs.

    Args:
        scores: (N,) as for `roc`; or a curve that is there already.
        same: (N,) bool as for `roc`; None with a curve.
        fars: fractions in [0, 1].

    Raises:
        DataError: as `roc`, and for a FAR that is no fraction.

    Example:
        >>> scores, same = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
        >>> tar_at_far(scores, same, [0.4])  # one impostor of two is a FAR of 0.5
        [TarAtFar(far=0.4, nearest=1.0, strict=0.5)]
    """
    curve: Curve = cast(Curve, scores) if same is None else roc(cast(np.ndarray, scores), same)
    falling_far, falling_tar = curve.corners.far[::-1], curve.corners.tar[::-1]
    results = []
    for far in fars:
        if not 0 <= far <= 1:
            raise DataError(f"FAR {far!r} is not a fraction: it must be in [0, 1]")
        nearest = falling_tar[np.argmin(np.abs(falling_far - far))]
        results.append(TarAtFar(float(far), float(nearest), curve.strict_tar(far)))
    return results


def auc(scores: np.ndarray, same: np.ndarray) -> float:
    """Area under the ROC curve: the share of (genuine, impostor) pairs in the right order, a tie counting one half.

    Args and Raises: as for `roc`.

    Example:
        >>> auc(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
        0.5
    """
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

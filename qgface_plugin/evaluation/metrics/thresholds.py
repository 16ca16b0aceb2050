"""Thresholds to decide with: for each FAR the cosine from which on a pair is accepted, and what stands behind it.

Two faces are taken for one person when their cosine is **at least** the threshold. The threshold of a FAR is the lowest
score that the largest accepted set with FAR <= far has, so it is a score that was measured, as scikit-learn's
`roc_curve` gives thresholds. Any value from it down to just above the next impostor score accepts the same pairs; this
is the most careful of them. Equal scores are accepted or refused together, so the FAR that is realised may be lower.

A FAR below 1 / (number of impostor pairs) is not extrapolated: it gets no threshold, and a sentence that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...utils.errors import DataError
from .intervals import DRAWS, FEWEST, PairPeople, bootstrap_tar, wilson
from .sorted_scores import SortedScores


@dataclass(frozen=True)
class Threshold:
    """An operating point of 1:1. Rates are fractions.

    Attributes:
        far: the FAR that was asked for.
        threshold: cosine from which on a pair is accepted; None where the pairs do not tell.
        false_accepts: impostor pairs that it accepts, at most far * impostors.
        impostors: number of impostor pairs behind it.
        true_accepts: genuine pairs that it accepts.
        genuine: number of genuine pairs.
        tar: true_accepts / genuine; None without a threshold.
        low, high: 95 % interval of the TAR; None without a threshold.
        reason: why there is no threshold; empty where there is one.
    """

    far: float
    threshold: float | None
    false_accepts: int
    impostors: int
    true_accepts: int
    genuine: int
    tar: float | None
    low: float | None
    high: float | None
    reason: str = ""


@dataclass(frozen=True)
class Thresholds:
    """Operating points of one evaluation.

    Attributes:
        points: one per FAR, as they were asked for.
        interval: what the intervals are: Wilson's, or a bootstrap over whom.
        flip_fusion: whether the features have those of the mirror images added; a threshold holds only for features
            made in the same way.
    """

    points: tuple[Threshold, ...]
    interval: str
    flip_fusion: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return {
            "interval": self.interval,
            "flip_fusion": self.flip_fusion,
            "accept": "cosine >= threshold",
            "points": [asdict(point) for point in self.points],
        }


def find_thresholds(
    scores: np.ndarray,
    same: np.ndarray,
    fars: Sequence[float],
    flip_fusion: bool,
    people: PairPeople | None = None,
    curve: SortedScores | None = None,
    draws: int = DRAWS,
) -> Thresholds:
    """The threshold of each FAR, with counts and intervals.

    Args:
        scores: (N,) cosines.
        same: (N,) bool, True for a genuine pair.
        fars: fractions in [0, 1].
        flip_fusion: whether mirror images went into the features.
        people: whom the pairs show, for a bootstrap; None: pairs are taken as independent.
        curve: of these scores, where it is there already.
        draws: of the bootstrap.

    Raises:
        DataError: scores and same that do not fit, pairs of one kind only, a FAR that is no fraction.

    Example:
        >>> scores, same = np.array([0.9, 0.7, 0.5, 0.2]), np.array([True, False, True, False])
        >>> [(point.threshold, point.false_accepts) for point in find_thresholds(scores, same, [0.5], False).points]
        [(0.5, 1)]
    """
    curve = SortedScores(scores, same) if curve is None else curve
    points = [_point(curve, float(far)) for far in fars]
    measured = [point.far for point in points if point.threshold is not None]
    if people is None:
        return Thresholds(_with_wilson(points), "Wilson, 95 %, pairs taken as independent", flip_fusion)
    if people.independent:
        return Thresholds(_with_wilson(points), f"Wilson, 95 %, pairs are independent ({people.source})", flip_fusion)
    if people.count < FEWEST:
        few = f"Wilson, 95 %: {people.count} people ({people.source}) are too few for a bootstrap"
        return Thresholds(_with_wilson(points), few, flip_fusion)
    said = f"bootstrap over {people.count:,} people, 95 % ({people.source})"
    if not measured:
        return Thresholds(tuple(points), said, flip_fusion)
    ends = dict(zip(measured, bootstrap_tar(scores, same, people, measured, draws).tolist(), strict=True))
    who = len(np.unique(people.first[same]))
    return Thresholds(tuple(_with_bootstrap(point, ends.get(point.far), who) for point in points), said, flip_fusion)


def _point(curve: SortedScores, far: float) -> Threshold:
    if not 0 <= far <= 1:
        raise DataError(f"FAR {far!r} is not a fraction: it must be in [0, 1]")
    impostors, genuine = len(curve.impostor), len(curve.genuine)
    allowed = curve.allowed(far)
    reason, refused = "", -np.inf
    if allowed == 0:
        reason = f"{impostors:,} impostor pairs show no FAR below {1 / impostors:.1e}"
    elif allowed < impostors:
        refused = float(curve.impostor[impostors - 1 - allowed])
    false_accepts = impostors - int(np.searchsorted(curve.impostor, refused, side="right"))
    true_accepts = genuine - int(np.searchsorted(curve.genuine, refused, side="right"))
    if not reason and false_accepts + true_accepts == 0:
        reason = f"the most alike {allowed + 1:,} or more impostor pairs have one score: no threshold tells them apart"
    if reason:
        return Threshold(far, None, 0, impostors, 0, genuine, None, None, None, reason)
    lowest = [
        float(kind[len(kind) - accepted])
        for kind, accepted in ((curve.impostor, false_accepts), (curve.genuine, true_accepts))
        if accepted
    ]
    tar = true_accepts / genuine
    return Threshold(far, min(lowest), false_accepts, impostors, true_accepts, genuine, tar, None, None)


def _with_wilson(points: Sequence[Threshold]) -> tuple[Threshold, ...]:
    return tuple(
        point if point.tar is None else _bounded(point, *wilson(point.true_accepts, point.genuine)) for point in points
    )


def _with_bootstrap(point: Threshold, ends: list[float] | None, people: int) -> Threshold:
    """A point with its interval. Draws of pairs that were all accepted, or all refused, say nothing about those that
    were not measured: Wilson's interval of as many trials as there are people with genuine pairs does."""
    if point.tar is None or ends is None:
        return point
    if point.tar in (0.0, 1.0):
        low, high = wilson(people if point.tar else 0, people)
        ends = [min(low, ends[0]), max(high, ends[1])]
    return _bounded(point, *ends)


def _bounded(point: Threshold, low: float, high: float) -> Threshold:
    return Threshold(**{**asdict(point), "low": float(low), "high": float(high)})

"""A ROC curve of millions of pairs, equal to `verification.roc`: genuine and impostor scores are sorted apart.

Of the curve only its corners are made, at most a few for each genuine pair, so that 8 million pairs cost one sort of
plain numbers and no index, cumulative sum or rate of that length.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np

from ...utils.errors import DataError
from .verification import Roc


class SortedScores:
    """Scores of pairs as a ROC curve that `verification.tar_at_far` reads. Equal scores are accepted together.

    Args:
        scores: (N,) float, higher meaning more alike.
        same: (N,) bool, True for a genuine pair.

    Attributes:
        genuine: (genuine pairs,) scores, ascending.
        impostor: (impostor pairs,) scores, ascending.

    Raises:
        DataError: shapes that do not fit, scores that are not finite, pairs of one kind only.

    Example:
        >>> from qgface_plugin.evaluation.metrics.verification import tar_at_far
        >>> scores = SortedScores(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]))
        >>> scores.auc
        0.75
        >>> tar_at_far(scores, None, [0.4])
        [TarAtFar(far=0.4, nearest=1.0, strict=0.5)]
    """

    def __init__(self, scores: np.ndarray, same: np.ndarray) -> None:
        scores, same = np.asarray(scores), np.asarray(same)
        if scores.ndim != 1 or same.shape != scores.shape or same.dtype != bool:
            raise DataError(f"scores are {scores.shape} and same is {same.dtype} {same.shape}: give (N,) and bool (N,)")
        self.genuine = np.sort(scores[same])
        self.impostor = np.sort(scores[~same])
        if len(self.genuine) == 0 or len(self.impostor) == 0:
            raise DataError(
                f"{len(self.genuine)} of {len(same)} pairs are genuine: both kinds are needed to verify anything"
            )
        # NaN sorts last and infinities to the ends, so the ends vouch for everything between them.
        ends = (self.genuine[0], self.genuine[-1], self.impostor[0], self.impostor[-1])
        if not np.isfinite(ends).all():
            bad = np.flatnonzero(~np.isfinite(scores))
            raise DataError(f"scores are not finite in {len(bad)} of {len(scores)} pairs, first pair {bad[0]}")

    @property
    def auc(self) -> float:
        """The share of (genuine, impostor) pairs in the right order; a tie counts one half."""
        return self.corners.auc

    @cached_property
    def corners(self) -> Roc:
        """The curve as scikit-learn's `roc_curve` returns it, equal to `verification.roc(...).corners`."""
        impostor, genuine = self.impostor, self.genuine
        # Every score that only one impostor pair has is a step of one to the right: along a run of those the curve is
        # straight. So it can only bend at the other scores: those of genuine pairs, and of several impostor pairs.
        tied = impostor[1:][impostor[1:] == impostor[:-1]]
        special = np.unique(np.concatenate([genuine, tied]))[::-1]
        start = _accepted(impostor, special, "right"), _accepted(genuine, special, "right")
        end = _accepted(impostor, special, "left"), _accepted(genuine, special, "left")
        steps = np.stack([end[0] - start[0], end[1] - start[1]])
        touches = start[0][1:] == end[0][:-1]  # no impostor pair between a special score and the one before it
        touches &= start[1][1:] == end[1][:-1]
        bends = (steps[:, 1:] != steps[:, :-1]).any(axis=0)
        from_start = np.append(True, ~touches)  # where they touch, the end of one is the start of the next
        from_end = np.append(~touches | bends, True)
        # The points that stay in any case: none accepted, the highest score accepted, all accepted.
        highest = max(impostor[-1], genuine[-1])
        first = _accepted(impostor, highest, "left"), _accepted(genuine, highest, "left")
        false_accepts = np.r_[0, first[0], start[0][from_start], end[0][from_end], len(impostor)]
        true_accepts = np.r_[0, first[1], start[1][from_start], end[1][from_end], len(genuine)]
        _, first_of = np.unique(false_accepts + true_accepts, return_index=True)  # the curve goes on at every point
        false_accepts, true_accepts = false_accepts[first_of], true_accepts[first_of]
        thresholds = np.minimum(_lowest(impostor, false_accepts), _lowest(genuine, true_accepts))
        return Roc(false_accepts, true_accepts, thresholds)

    def allowed(self, far: float) -> int:
        """How many impostor pairs may be accepted at most, so that their share is not above `far`."""
        impostors = len(self.impostor)
        allowed = int(far * impostors) + 1  # one more than a product rounded down, then back to what the rate allows
        while allowed / impostors > far:
            allowed -= 1
        return min(allowed, impostors)

    def strict_tar(self, far: float) -> float:
        """The largest TAR of a threshold that accepts no more than the share `far` of the impostor pairs."""
        impostors, allowed = len(self.impostor), self.allowed(far)
        if allowed >= impostors:
            return 1.0
        refused = self.impostor[impostors - 1 - allowed]  # the highest impostor score that must be refused
        return float((len(self.genuine) - np.searchsorted(self.genuine, refused, side="right")) / len(self.genuine))


def _lowest(ascending: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """The lowest of the `accepted` highest scores, inf where none is."""
    return np.append(ascending, np.inf)[len(ascending) - accepted]


def _accepted(ascending: np.ndarray, threshold: np.ndarray | float, side: Literal["left", "right"]) -> np.ndarray:
    """How many of the scores are accepted: above the threshold ("right"), or also at it ("left")."""
    return len(ascending) - np.searchsorted(ascending, threshold, side=side)

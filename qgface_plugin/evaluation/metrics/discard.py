"""Error versus discard: how the FNMR falls when the pairs of worst quality are discarded (ISO/IEC 29794-1, Grother and
Tabassi 2007). N pairs; shares are fractions.

The threshold is fixed before anything is discarded: that of an FMR over all impostor pairs. Quality of a pair is the
lower one of its two images. FNMR and the discarded share are over the genuine pairs.

Pairs of equal quality are discarded together: a threshold of quality cannot part them, and the curve then depends on
no order. Between two such steps nothing more can be discarded, so FNMR stays as it is. A quality that is the same for
all images has one step: FNMR stays at its first value, and the normalised area is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...utils.errors import DataError
from .sorted_scores import SortedScores
from .thresholds import Threshold, find_thresholds

LIMIT = 0.3  # of the discarded share, up to which areas are taken
GRID = 201  # points of a saved curve


@dataclass(frozen=True)
class DiscardCurve:
    """An error-versus-discard curve at one FMR.

    Attributes:
        at: the operating point: FMR (`far`), threshold, impostor pairs behind it; its `reason` where there is none.
        genuine: number of genuine pairs.
        fnmr: before anything is discarded; None without a threshold.
        limit: largest discarded share of the areas.
        area: under the steps from 0 to `limit`; None without a threshold.
        normalised: area / (limit * fnmr): 1 where discarding does not help, less where it does, more where it discards
            the wrong pairs; None also where no genuine pair is refused.
        gain: 0 where discarding does not help, 1 for a quality that discards every refused pair first; None as above.
        discarded: (steps,) shares after which FNMR changes, from 0 on.
        errors: (steps,) FNMR of the pairs that are left from that share on.
    """

    at: Threshold
    genuine: int
    fnmr: float | None
    limit: float
    area: float | None
    normalised: float | None
    gain: float | None
    discarded: np.ndarray = field(repr=False)
    errors: np.ndarray = field(repr=False)

    def fnmr_at(self, share: float) -> float | None:
        """FNMR when at most this share is discarded; None without a threshold."""
        if not len(self.discarded):
            return None
        return float(self.errors[np.searchsorted(self.discarded, share * (1 + 1e-12), side="right") - 1])

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON; of the curve, points on a grid of shares."""
        grid = np.linspace(0, 1, GRID)[:-1] if len(self.discarded) else np.empty(0)
        return {
            "fmr": self.at.far,
            "threshold": self.at.threshold,
            "false_accepts": self.at.false_accepts,
            "impostors": self.at.impostors,
            "genuine": self.genuine,
            "fnmr": self.fnmr,
            "limit": self.limit,
            "area": self.area,
            "normalised": self.normalised,
            "gain": self.gain,
            "reason": self.at.reason,
            "discarded": grid.tolist(),
            "errors": [self.fnmr_at(share) for share in grid.tolist()],
        }


def discard_curve(
    scores: np.ndarray,
    same: np.ndarray,
    quality: np.ndarray,
    fmr: float,
    limit: float = LIMIT,
    ranked: SortedScores | None = None,
) -> DiscardCurve:
    """The curve of one quality at one FMR.

    Args:
        scores: (N,) cosines.
        same: (N,) bool, True for a genuine pair.
        quality: (N,) of the pairs, higher meaning better; -inf for pairs of an image that could not be scored, which
            are discarded first.
        fmr: a fraction in [0, 1]; below 1 / impostors there is no curve, and `at.reason` says so.
        limit: of the areas, in (0, 1].
        ranked: of these scores, where it is there already.

    Raises:
        DataError: arrays that do not fit, a quality that is NaN or infinitely good, a limit out of range.

    Example:
        >>> scores, same = np.array([0.9, 0.8, 0.1, 0.3, 0.2]), np.array([True, True, True, False, False])
        >>> curve = discard_curve(scores, same, np.array([3.0, 2.0, 1.0, 9.0, 9.0]), fmr=0.5)
        >>> curve.fnmr, curve.fnmr_at(0.34)
        (0.3333333333333333, 0.0)
    """
    quality = np.asarray(quality, dtype=np.float64)
    if quality.shape != np.shape(scores):
        raise DataError(f"quality is {quality.shape} and scores are {np.shape(scores)}: one number per pair")
    if np.isnan(quality).any() or np.isposinf(quality).any():
        bad = np.count_nonzero(~(quality < np.inf))
        raise DataError(f"quality is not a number, or infinite, of {bad} of {len(quality)} pairs")
    if not 0 < limit <= 1:
        raise DataError(f"limit is {limit!r}: a share that may be discarded, above 0 and at most 1")
    (point,) = find_thresholds(scores, same, [fmr], flip_fusion=False, curve=ranked).points
    genuine = int(np.count_nonzero(same))
    if point.threshold is None:
        return DiscardCurve(point, genuine, None, limit, None, None, None, np.empty(0), np.empty(0))
    order = np.argsort(quality[same], kind="stable")
    ascending = quality[same][order]
    refused = (np.asarray(scores)[same] < point.threshold)[order]
    first = np.append(0, np.flatnonzero(ascending[1:] != ascending[:-1]) + 1)  # of each run of equal quality
    left = genuine - first
    errors = (refused.sum() - np.append(0, np.cumsum(refused))[first]) / left
    discarded = first / genuine
    area = _area(discarded, errors, limit)
    fnmr = float(errors[0])
    flat, best = limit * fnmr, _best(fnmr, limit)
    return DiscardCurve(
        at=point,
        genuine=genuine,
        fnmr=fnmr,
        limit=limit,
        area=area,
        normalised=area / flat if fnmr else None,
        gain=(flat - area) / (flat - best) if flat > best else None,
        discarded=discarded,
        errors=errors,
    )


def pair_quality(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The lower of both images' qualities, (N,).

    Example:
        >>> pair_quality(np.array([1.0, 5.0]), np.array([2.0, -np.inf])).tolist()
        [1.0, -inf]
    """
    return np.minimum(first, second)


def _area(discarded: np.ndarray, errors: np.ndarray, limit: float) -> float:
    widths = np.diff(np.minimum(np.append(discarded, 1.0), limit))
    return float(np.sum(widths * errors))


def _best(fnmr: float, limit: float) -> float:
    """Area of a quality that discards every refused pair before any other: FNMR falls from f to 0 at a share of f, as
    (f - x) / (1 - x)."""
    end = min(fnmr, limit)
    return float(end + (1 - fnmr) * np.log1p(-end)) if end < 1 else 1.0

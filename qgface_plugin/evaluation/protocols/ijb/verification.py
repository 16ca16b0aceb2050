"""Verification (1:1) of IJB: the cosine of each pair of templates, and TAR@FAR of them all. P pairs, T templates."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ....utils.errors import DataError
from ...metrics.intervals import PairPeople, components
from ...metrics.saved_curves import saved_curves
from ...metrics.sorted_scores import SortedScores
from ...metrics.thresholds import Thresholds, find_thresholds
from ...metrics.verification import Roc, TarAtFar, tar_at_far
from .metadata import IjbPairs
from .templates import Mode, Templates

if TYPE_CHECKING:
    import torch

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BLOCK_BYTES = 256 << 20  # of one block of the matrix of all scores
DENSE = 100  # below one pair in so many entries of a block, rows are multiplied one by one
ROW_PAIRS = 8192  # pairs at a time then


@dataclass(frozen=True)
class IjbVerification:
    """Result of 1:1 in one mode. Fractions, never percent.

    Attributes:
        mode: what of an image went into its template.
        pairs: P.
        genuine: number of pairs of one person.
        auc: area under the ROC curve.
        tar_at_far: at each of `FARS`.
        thresholds: cosines to decide with, at each of `FARS`.
        corners: the curve, for a plot.
        curves: what a figure needs of it, as `metrics.saved_curves` keeps it.
    """

    mode: Mode
    pairs: int
    genuine: int
    auc: float
    tar_at_far: tuple[TarAtFar, ...]
    thresholds: Thresholds
    corners: Roc = field(repr=False)
    curves: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON; of the curve what a figure needs."""
        return {
            "mode": self.mode.name,
            "meaning": self.mode.meaning,
            "pairs": self.pairs,
            "genuine": self.genuine,
            "auc": self.auc,
            "tar_at_far": [asdict(point) for point in self.tar_at_far],
            "thresholds": self.thresholds.as_dict(),
            "curves": self.curves,
        }


@dataclass(frozen=True)
class PairRows:
    """The pairs as rows of the templates: looked up once, used for every mode.

    Attributes:
        first: (P,) int32.
        second: (P,) int32.
        same: (P,) bool, True for a genuine pair.
        people: whom the pairs show: templates that genuine pairs join are one person.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    people: PairPeople

    @classmethod
    def of(cls, pairs: IjbPairs, templates: Templates) -> PairRows:
        """The rows of `pairs`.

        Raises:
            DataError: a pair with a template that has no images, or no pairs.
        """
        if len(pairs) == 0:
            raise DataError("there are no pairs of templates to verify")
        what = "the pairs of the 1:1 protocol"
        first, second = templates.rows(pairs.first, what), templates.rows(pairs.second, what)
        people = components(len(templates.ids), first[pairs.same], second[pairs.same]).astype(np.int32)
        known = PairPeople(people[first], people[second], "templates that genuine pairs join are one person")
        return cls(first, second, pairs.same, known)


def verify(templates: Templates, rows: PairRows, mode: Mode, enrolled: Templates | None = None) -> IjbVerification:
    """Scores of all pairs, their AUC, and TAR at `FARS`.

    Args:
        templates: by the model that is evaluated.
        rows: the pairs.
        mode: how the templates were made.
        enrolled: the same templates by the model that the gallery was enrolled with, which the first one of each pair
            is then taken from; None: both are of `templates`.

    Raises:
        DataError: pairs of one kind only.
    """
    first = None if enrolled is None else enrolled.features
    cosines = pair_scores(templates.features, rows.first, rows.second, first)
    scores = SortedScores(cosines, rows.same)
    return IjbVerification(
        mode=mode,
        pairs=len(rows.same),
        genuine=len(scores.genuine),
        auc=scores.auc,
        tar_at_far=tuple(tar_at_far(scores, None, FARS)),
        thresholds=find_thresholds(cosines, rows.same, FARS, mode.flip, rows.people, scores),
        corners=scores.corners,
        curves=saved_curves(scores),
    )


def pair_scores(
    features: np.ndarray, first: np.ndarray, second: np.ndarray, enrolled: np.ndarray | None = None
) -> np.ndarray:
    """Cosine of each pair of templates, features[first] . features[second].

    IJB pairs few templates with many: 8 million pairs of IJB-B are 42 % of all that its 1,845 and 10,270 templates can
    form. So all of them are multiplied, as one matrix product or a block of it at a time, and the pairs' looked up.

    Args:
        features: (T, d) float64, of unit length.
        first: (P,) rows.
        second: (P,) rows.
        enrolled: (T, d) float64, of unit length: the first ones of the pairs are rows of it instead.

    Returns:
        (P,) float64 in [-1, 1].

    Example:
        >>> pair_scores(np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([0, 1]), np.array([1, 1])).tolist()
        [0.6, 1.0]
    """
    if enrolled is None:
        enrolled = features
        first, second = _canonical(features, first, second)
    else:  # a score has a direction then
        first, second = _leaders(enrolled, first.dtype)[first], _leaders(features, second.dtype)[second]
    left, left_row = _used(first, len(features))
    right, right_row = _used(second, len(features))
    import torch

    columns = torch.from_numpy(features[right]).T  # (d, R)
    height = max(1, BLOCK_BYTES // (8 * len(right)))
    if height >= len(left):
        return _block(enrolled, left, columns, left_row[first], right_row[second])
    scores = np.empty(len(first))
    block_of = (left_row[first] // height).astype(np.int32)
    order = np.argsort(block_of, kind="stable")
    bounds = np.searchsorted(block_of[order], np.arange(-(-len(left) // height) + 1))
    for block, (begin, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        chosen = order[begin:end]
        base = block * height
        if (end - begin) * DENSE < min(height, len(left) - base) * len(right):
            scores[chosen] = _row_by_row(enrolled, features, first[chosen], second[chosen])
        else:
            rows = left_row[first[chosen]] - base
            scores[chosen] = _block(enrolled, left[base : base + height], columns, rows, right_row[second[chosen]])
    return scores


def _canonical(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs with what has one score at one entry of the matrix, so that ties stay ties to the last bit.

    These are templates with equal features, and a pair that is listed in both directions.
    """
    of = _leaders(features, first.dtype)
    first, second = of[first], of[second]
    both = np.zeros((2, len(features)), dtype=bool)
    both[0, first] = both[1, second] = True
    if both.all(axis=0).any():
        return np.minimum(first, second), np.maximum(first, second)
    return first, second


def _leaders(features: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Of each template the first one with features equal to its own, as rows (T,)."""
    of = np.arange(len(features), dtype=dtype)
    _, group, sizes = np.unique(features[:, 0], return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(sizes[group.reshape(-1)] > 1)
    if len(candidates):
        _, leader, group = np.unique(features[candidates], axis=0, return_index=True, return_inverse=True)
        of[candidates] = candidates[leader][group.reshape(-1)]
    return of


def _used(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that occur, ascending, and for each of `count` rows its number among them (int64)."""
    occurs = np.zeros(count, dtype=bool)
    occurs[rows] = True
    return np.flatnonzero(occurs), np.cumsum(occurs) - 1


def _block(features: np.ndarray, left: np.ndarray, columns: torch.Tensor, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    import torch

    products = (torch.from_numpy(features[left]) @ columns).numpy()
    entry = i * products.shape[1]
    entry += j
    return products.reshape(-1).take(entry)


def _row_by_row(left: np.ndarray, right: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    scores = np.empty(len(first))
    for start in range(0, len(first), ROW_PAIRS):
        part = slice(start, start + ROW_PAIRS)
        scores[part] = np.einsum("pd,pd->p", left[first[part]], right[second[part]])
    return scores

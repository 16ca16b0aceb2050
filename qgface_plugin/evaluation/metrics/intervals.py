"""Intervals of a TAR: Wilson's where pairs are independent, else a bootstrap over the people whom pairs share.

Pairs that share a person err together: 20 pairs of somebody whom the encoder does not know are one piece of evidence,
not 20. So people are drawn, with replacement, and a pair counts as often as its people were drawn (the product of both,
for an impostor pair): Owen's pigeonhole bootstrap (2007), whose intervals are a little too wide rather than too narrow.
The threshold is found anew in every draw, so the interval is also of the threshold's own uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...utils.errors import DataError

LEVEL = 0.95
Z = 1.959963984540054  # of the normal distribution: LEVEL of it lies within
DRAWS, FEWEST_DRAWS = 1000, 200
LARGE = 2**24  # pairs whose sum of weights may not fit 32 bits
WORK = 400_000_000  # pairs to be weighed, beyond which fewer draws are made
REACH, SPARE = 1.3, 1000  # a draw looks at so many times the impostor pairs that a FAR allows, and so many more
FEWEST = 10  # people below whom a bootstrap says nothing
ROUNDING = 1 + 1e-12  # of a product of a rate and a count


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate of `hits` in `count` independent trials, by Wilson's score (1927).

    Raises:
        DataError: no trial, or more hits than trials.

    Example:
        >>> [round(end, 4) for end in wilson(95, 100)]
        [0.8882, 0.9785]
    """
    if not 0 <= hits <= count or count == 0:
        raise DataError(f"{hits} hits in {count} trials: a rate needs one trial at least")
    rate, square = hits / count, Z * Z / count
    middle = (rate + square / 2) / (1 + square)
    half = Z * np.sqrt(rate * (1 - rate) / count + square / count / 4) / (1 + square)
    low, high = float(middle - half), float(middle + half)
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)


@dataclass(frozen=True)
class PairPeople:
    """Whom the pairs show: what a bootstrap draws. P pairs of n people.

    Attributes:
        first: (P,) int, of the first image or template of each pair, 0 to n - 1.
        second: (P,) int.
        source: how people are known, for whoever reads the interval.

    Example:
        >>> people = PairPeople.joined(np.array([0, 2, 1]), np.array([1, 3, 4]), np.array([True, True, False]), "x")
        >>> people.first.tolist(), people.second.tolist(), people.independent
        ([0, 1, 0], [0, 1, 2], False)
    """

    first: np.ndarray
    second: np.ndarray
    source: str

    @classmethod
    def joined(cls, first: np.ndarray, second: np.ndarray, same: np.ndarray, source: str) -> PairPeople:
        """People as far as pairs tell: what genuine pairs join is one.

        Args:
            first: (P,) int, images or templates of any numbers.
            second: (P,) int.
            same: (P,) bool, True for a genuine pair.
            source: as the attribute.
        """
        numbers, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
        rows = inverse.reshape(2, -1)
        people = components(len(numbers), rows[0][same], rows[1][same])
        return cls(people[rows[0]], people[rows[1]], source)

    @property
    def count(self) -> int:
        """n, the number of people."""
        return int(max(self.first.max(), self.second.max())) + 1

    @property
    def independent(self) -> bool:
        """Whether nobody is in two pairs."""
        once = self.first == self.second
        seen = np.bincount(self.first, minlength=self.count) + np.bincount(self.second[~once], minlength=self.count)
        return bool((seen <= 1).all())


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of the connected part that each of `count` things belongs to, (count,) int64 from 0 on.

    Args:
        count: how many things.
        first, second: (E,) int, the ends of what connects them.

    Example:
        >>> components(5, np.array([0, 3]), np.array([4, 4])).tolist()
        [0, 1, 2, 0, 0]
    """
    label = np.arange(count)
    while True:
        lowest = np.minimum(label[first], label[second])
        following = label.copy()
        for end in (first, second):
            np.minimum.at(following, label[end], lowest)
        following = following[following]
        if np.array_equal(following, label):
            return np.unique(label, return_inverse=True)[1].reshape(-1)
        label = following


def bootstrap_tar(
    scores: np.ndarray, same: np.ndarray, people: PairPeople, fars: Sequence[float], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """95 % intervals of the largest TAR with FAR <= far, from draws of people.

    Args:
        scores: (P,), higher meaning more alike.
        same: (P,) bool, True for a genuine pair, both kinds among them.
        people: whom the pairs show.
        fars: fractions in [0, 1].
        draws: how many; of millions of pairs fewer, FEWEST_DRAWS at least.
        seed: of the draws.

    Returns:
        (F, 2) float64: 2.5th and 97.5th percentile of the draws.

    Raises:
        DataError: no draw has pairs of both kinds.
    """
    genuine = np.flatnonzero(same)
    genuine = genuine[np.argsort(scores[genuine], kind="stable")[::-1]]
    impostors = np.flatnonzero(~same)
    # A draw finds its thresholds among the most alike impostor pairs; the others only count in their sum of weights.
    reach = min(len(impostors), int(REACH * max(fars) * len(impostors)) + SPARE)
    top = impostors
    if reach < len(impostors):
        top = impostors[np.argpartition(scores[impostors], len(impostors) - reach)[len(impostors) - reach :]]
    top = top[np.argsort(scores[top], kind="stable")[::-1]]
    draws = max(FEWEST_DRAWS, min(draws, WORK // max(reach, 1)))
    n = people.count
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws).astype(np.int32)
    totals = _totals(people, impostors, weights)
    genuine_scores, top_scores, of_pairs = scores[genuine][::-1], scores[top], people.first[genuine]
    of_top = people.first[top], people.second[top]
    one, other = np.empty((2, len(top)), dtype=np.int32)
    passed = np.empty(len(top), dtype=np.int64 if len(impostors) > LARGE else np.int32)
    found = []
    for weight, total in zip(weights, totals, strict=True):
        of_genuine = np.cumsum(weight[of_pairs], dtype=np.int64)  # most alike first
        if total == 0 or of_genuine[-1] == 0:
            continue
        allowed = np.asarray(fars) * float(total) * ROUNDING
        np.take(weight, of_top[0], out=one, mode="clip")  # "raise" would copy
        np.take(weight, of_top[1], out=other, mode="clip")
        one *= other
        np.cumsum(one, out=passed)
        ranked, reached = top_scores, passed
        if passed[-1] <= allowed.max() and len(top) < len(impostors):  # a draw in which the top weighs little
            order = impostors[np.argsort(scores[impostors], kind="stable")[::-1]]
            ranked = scores[order]
            reached = np.cumsum(weight[people.first[order]] * weight[people.second[order]], dtype=np.int64)
        refused = np.searchsorted(reached, allowed, side="right")  # the first impostor pair that is one too many
        limit = np.append(ranked, -np.inf)[refused]
        accepted = len(genuine) - np.searchsorted(genuine_scores, limit, side="right")
        found.append(np.append(0, of_genuine)[accepted] / of_genuine[-1])
    if not found:
        raise DataError(f"no draw of {n} people has pairs of both kinds: TAR cannot be given an interval")
    return np.percentile(found, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0).T


def _totals(people: PairPeople, impostors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over the impostor pairs of the product of their people's weights, for each draw: (draws,) float64."""
    n = people.count
    first, second = people.first[impostors], people.second[impostors]
    if n * n <= 8 * len(impostors) + 1_000_000:  # a table of people against people is smaller than the list of pairs
        table = np.bincount(first.astype(np.int64) * n + second, minlength=n * n).reshape(n, n).astype(np.float64)
        drawn = weights.astype(np.float64)
        return np.einsum("dn,dn->d", drawn @ table, drawn)
    return np.array([np.sum(weight[first] * weight[second], dtype=np.int64) for weight in weights], dtype=np.float64)

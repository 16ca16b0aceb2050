"""Intervals against Wilson's formula, against a bootstrap that copies every pair, and in coverage."""

from __future__ import annotations

import numpy as np
import pytest

from qgface_plugin.evaluation.metrics import intervals
from qgface_plugin.evaluation.metrics.intervals import PairPeople, bootstrap_tar, components, wilson
from qgface_plugin.evaluation.metrics.verification import tar_at_far
from qgface_plugin.utils.errors import DataError


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_wilson(hits: int, count: int, low: float, high: float) -> None:
    """The last two are of Newcombe's table (1998)."""
    found = wilson(hits, count)
    assert found == pytest.approx((low, high), abs=6e-5)
    for end in found:  # where |rate - end| is 1.96 standard deviations of a rate that is truly `end`
        if 0 < end < 1:
            assert abs(hits / count - end) == pytest.approx(1.959964 * (end * (1 - end) / count) ** 0.5, rel=1e-6)
    with pytest.raises(DataError, match="3 hits in 2 trials"):
        wilson(3, 2)


def test_components_like_walking() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        count, edges = 25, random.integers(0, 25, (random.integers(0, 30), 2))
        found = components(count, edges[:, 0], edges[:, 1])
        for start in range(count):
            reached, ahead = {start}, [start]
            while ahead:
                here = ahead.pop()
                for a, b in edges.tolist():
                    for there in {a, b} - reached if here in (a, b) else ():
                        reached.add(there)
                        ahead.append(there)
            assert set(np.flatnonzero(found == found[start]).tolist()) == reached
        assert sorted(set(found.tolist())) == list(range(found.max() + 1))


def draw_pairs(random: np.random.Generator, people: int, count: int) -> tuple[np.ndarray, np.ndarray, PairPeople]:
    first = random.integers(0, people, count)
    second = np.where(random.random(count) < 0.4, first, random.integers(0, people, count))
    same = first == second
    difficulty = random.normal(0, 1, people)
    scores = np.round(difficulty[first] + 0.5 * random.standard_normal(count) + 2.5 * same, 1)
    return scores, same, PairPeople(first, second, "drawn")


@pytest.mark.parametrize("reach", [2, 0.6, 0])
def test_bootstrap_copies_pairs(monkeypatch: pytest.MonkeyPatch, reach: float) -> None:
    """Each draw as a list in which a pair stands as often as its people were drawn. With a short reach, some draws or
    all have to look at all pairs."""
    monkeypatch.setattr(intervals, "REACH", reach)
    monkeypatch.setattr(intervals, "SPARE", 5)
    scores, same, people = draw_pairs(np.random.default_rng(3), 12, 160)
    fars, draws = [0.02, 0.1, 0.5], 200
    found = bootstrap_tar(scores, same, people, fars, draws, seed=5)
    weights = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), draws)
    tars = []
    for weight in weights:
        times = np.where(same, weight[people.first], weight[people.first] * weight[people.second])
        copied = np.repeat(np.arange(160), times)
        if 0 < same[copied].sum() < len(copied):
            tars.append([point.strict for point in tar_at_far(scores[copied], same[copied], fars)])
    np.testing.assert_allclose(found, np.percentile(tars, [2.5, 97.5], axis=0).T, atol=1e-12)


def test_a_table_of_people_weighs_like_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = draw_pairs(np.random.default_rng(4), 40, 900)
    impostors = np.flatnonzero(~same)
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 20).astype(np.int32)
    by_table = intervals._totals(people, impostors, weights)
    sparse = PairPeople(people.first * 1000, people.second * 1000, "x")  # n * n is too large for a table
    wide = np.zeros((20, 40_000), np.int32)
    wide[:, ::1000] = weights
    np.testing.assert_array_equal(by_table, intervals._totals(sparse, impostors, wide))


def test_shared_people_make_intervals_wider() -> None:
    """20 pairs of each of 30 people who are found or not: 30 trials, not 600, and the interval covers the truth."""
    covered, narrow = 0, 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        known = random.random(30) < 0.8
        who = np.repeat(np.arange(30), 20)
        same = np.repeat([True, False], [600, 600])
        first = np.concatenate([who, random.integers(0, 30, 600)])
        second = np.concatenate([who, (first[600:] + random.integers(1, 30, 600)) % 30])
        scores = np.concatenate([np.where(known[who], 3.0, -3.0), random.standard_normal(600) / 4])
        ((low, high),) = bootstrap_tar(scores, same, PairPeople(first, second, "x"), [0.01], 300)
        covered += low <= 0.8 <= high
        low, high = wilson(int((scores[:600] > 1).sum()), 600)
        narrow += low <= 0.8 <= high
    assert covered >= 50 and narrow < 45


def test_people_as_pairs_tell_them() -> None:
    first, second = np.array([10, 30, 20, 50]), np.array([20, 40, 30, 60])
    found = PairPeople.joined(first, second, np.array([True, False, False, True]), "images")
    assert found.first.tolist() == [0, 1, 0, 3] and found.second.tolist() == [0, 2, 1, 3] and found.count == 4
    assert not found.independent
    assert PairPeople.joined(first[[0, 3]], second[[0, 3]], np.array([True, False]), "x").independent


def test_no_draw_with_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "FEWEST_DRAWS", 1)
    people = PairPeople(np.array([0, 1]), np.array([0, 2]), "x")
    with pytest.raises(DataError, match="no draw of 3 people has pairs of both kinds"):
        for seed in range(20):  # one draw each: nearly all lack somebody
            bootstrap_tar(np.array([1.0, 0.0]), np.array([True, False]), people, [0.5], draws=1, seed=seed)

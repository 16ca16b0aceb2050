"""Thresholds against a loop over every score, and against scikit-learn's roc_curve."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from qgface_plugin.evaluation.metrics.intervals import PairPeople, wilson
from qgface_plugin.evaluation.metrics.sorted_scores import SortedScores
from qgface_plugin.evaluation.metrics.thresholds import find_thresholds
from qgface_plugin.evaluation.metrics.verification import pair_cosines, pair_distances, roc
from qgface_plugin.utils.errors import DataError

FARS = (0.0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.99, 1.0)


def by_loop(scores: list[float], same: list[bool], far: float) -> tuple[float | None, int, int]:
    """Every score as a threshold, the largest TAR with FAR <= far; of those the highest threshold. None: no threshold,
    since FAR < 1 / impostors or since nothing can be accepted."""
    impostors = sum(not flag for flag in same)
    if far < 1 / impostors:
        return None, 0, 0
    best: tuple[float | None, int, int] = (None, 0, 0)
    for threshold in sorted(set(scores), reverse=True):
        false = sum(score >= threshold and not flag for score, flag in zip(scores, same, strict=True))
        true = sum(score >= threshold and flag for score, flag in zip(scores, same, strict=True))
        if false / impostors <= far:
            best = threshold, false, true
    return best


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40), st.sampled_from(FARS))
@settings(max_examples=150, deadline=None)
def test_like_a_loop(values: list[tuple[int, bool]], far: float) -> None:
    scores, same = [value / 4 for value, _ in values], [flag for _, flag in values]
    if len(set(same)) < 2:
        same[0], same[1] = True, False
    found = find_thresholds(np.array(scores), np.array(same), [far], flip_fusion=False)
    (point,) = found.points
    threshold, false, true = by_loop(scores, same, far)
    assert (point.threshold, point.false_accepts, point.true_accepts) == (threshold, false, true)
    assert (point.impostors, point.genuine) == (len(same) - sum(same), sum(same))
    if threshold is None:
        assert point.tar is point.low is point.high is None and point.reason
    else:
        assert point.tar == true / sum(same) and (point.low, point.high) == wilson(true, sum(same))
        assert point.low <= point.tar <= point.high and not point.reason


@pytest.mark.parametrize("seed", range(4))
def test_like_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    same = random.random(3000) < 0.2
    scores = np.tanh(random.standard_normal(3000) + 2 * same)
    scores[::3] = np.round(scores[::3], seed)
    for far, tar, thresholds, ours in (
        (*roc_curve(same, scores, drop_intermediate=False), roc(scores, same)),
        (*roc_curve(same, scores), roc(scores, same).corners),
        (*roc_curve(same, scores), SortedScores(scores, same).corners),
    ):
        np.testing.assert_array_equal(ours.far, far)
        np.testing.assert_array_equal(ours.tar, tar)
        np.testing.assert_array_equal(ours.thresholds, thresholds)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    fars = (1e-3, 1e-2, 0.1, 0.7)
    for point in find_thresholds(scores, same, fars, flip_fusion=True).points:
        last = np.flatnonzero(far <= point.far)[-1]
        if np.isinf(thresholds[last]):  # scikit-learn's for accepting nothing: the highest score is of impostors
            assert point.threshold is None and "have one score" in point.reason
            continue
        assert point.threshold == thresholds[last] and point.tar == tar[last]
        assert np.mean(scores[~same] >= point.threshold) == point.false_accepts / point.impostors <= point.far
        assert np.mean(scores[same] >= point.threshold) == point.tar


def test_refusals_name_the_number_of_pairs() -> None:
    scores, same = np.linspace(0, 1, 400), np.arange(400) % 4 == 3
    points = find_thresholds(scores, same, [1e-3, 1 / 300, 0.5], flip_fusion=False).points
    assert points[0].threshold is None and points[0].reason == "300 impostor pairs show no FAR below 3.3e-03"
    assert points[1].threshold is not None and points[1].false_accepts == 1
    tied = find_thresholds(np.zeros(9), np.arange(9) > 5, [0.5], flip_fusion=False).points[0]
    assert tied.threshold is None and "the most alike 4 or more impostor pairs have one score" in tied.reason
    with pytest.raises(DataError, match="FAR 2.0 is not a fraction"):
        find_thresholds(scores, same, [2], flip_fusion=False)


def test_which_interval_is_said() -> None:
    random = np.random.default_rng(0)
    same = np.arange(60) < 30
    scores = random.random(60) + same
    alone = find_thresholds(scores, same, [0.1], flip_fusion=True)
    assert alone.interval == "Wilson, 95 %, pairs taken as independent" and alone.flip_fusion
    # 120 images, each in one pair
    own = PairPeople.joined(np.arange(60), np.arange(60, 120), same, "no image is in two pairs")
    assert find_thresholds(scores, same, [0.1], True, own).interval == (
        "Wilson, 95 %, pairs are independent (no image is in two pairs)"
    )
    few = PairPeople(np.arange(60) % 3, (np.arange(60) + ~same) % 3, "x")
    assert "3 people (x) are too few for a bootstrap" in find_thresholds(scores, same, [0.1], True, few).interval
    shared = PairPeople(np.arange(60) % 20, (np.arange(60) + ~same) % 20, "the list of subjects")
    found = find_thresholds(scores, same, [0.001, 0.1, 0.3], True, shared)
    assert found.interval == "bootstrap over 20 people, 95 % (the list of subjects)"
    assert found.points[0].low is None and found.points[1].low <= found.points[1].tar <= found.points[1].high
    saved = json.loads(json.dumps(found.as_dict()))
    assert saved["accept"] == "cosine >= threshold" and saved["points"][2]["impostors"] == 30
    assert find_thresholds(scores, same, [0.001], True, shared).points[0].threshold is None


def test_nothing_refused_is_no_certainty() -> None:
    """All genuine pairs accepted in every draw: as sure as the number of people allows, not 100 % to 100 %."""
    same = np.arange(400) < 200
    people = PairPeople(np.arange(400) % 20, (np.arange(400) + ~same) % 20, "x")
    (point,) = find_thresholds(np.where(same, 1.0, np.linspace(-1, 0, 400)), same, [0.01], False, people).points
    assert point.tar == point.high == 1.0 and point.low == wilson(20, 20)[0] < 0.85


def test_cosines_of_pairs() -> None:
    features = np.random.default_rng(1).standard_normal((1400, 7)).astype(np.float32) * 30
    features[6] = 0
    cosines = pair_cosines(features)
    for pair in range(700):
        a, b = features[2 * pair].astype(float), features[2 * pair + 1].astype(float)
        expected = sum(a * b) / ((sum(a * a) ** 0.5 or 1) * (sum(b * b) ** 0.5 or 1))
        assert cosines[pair] == pytest.approx(expected, abs=1e-14)
    rest = np.arange(700) != 3
    np.testing.assert_allclose(1 - pair_distances(features)[rest] / 2, cosines[rest], atol=1e-14)
    with pytest.raises(DataError, match=r"features are \(3, 2\)"):
        pair_cosines(np.ones((3, 2)))

"""Metrics against loops written from their definitions, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from qgface_plugin.evaluation.metrics.verification import (
    THRESHOLDS,
    auc,
    kfold_accuracy,
    pair_distances,
    roc,
    tar_at_far,
)
from qgface_plugin.utils.errors import DataError


def make_pairs(count: int, seed: int, step: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping distances; `step` rounds them, so that many are equal and many lie on a threshold."""
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    same[:2] = True, False
    distances = np.clip(rng.normal(np.where(same, 1.2, 1.8), 0.4), 0, 4)
    return (np.round(distances / step) * step if step else distances), same


def naive_folds(count: int, folds: int) -> list[range]:
    """Contiguous parts; the first ones hold one more when `count` does not divide."""
    parts, start = [], 0
    for fold in range(folds):
        size = count // folds + (1 if fold < count % folds else 0)
        parts.append(range(start, start + size))
        start += size
    return parts


def naive_kfold(distances: np.ndarray, same: np.ndarray, folds: int) -> tuple[list[float], list[float]]:
    accuracies, chosen = [], []
    for test in naive_folds(len(same), folds):
        train = [i for i in range(len(same)) if i not in test]
        best, best_right = 0.0, -1
        for threshold in THRESHOLDS:
            right = sum((distances[i] < threshold) == same[i] for i in train)
            if right > best_right:
                best, best_right = float(threshold), right
        accuracies.append(sum((distances[i] < best) == same[i] for i in test) / len(test))
        chosen.append(best)
    return accuracies, chosen


@pytest.mark.parametrize(("count", "folds", "step"), [(40, 10, 0.0), (43, 10, 0.01), (60, 3, 0.25), (10, 10, 0.0)])
def test_kfold_accuracy_is_the_definition(count, folds, step):
    distances, same = make_pairs(count, seed=count, step=step)
    accuracies, chosen = naive_kfold(distances, same, folds)
    result = kfold_accuracy(distances, same, folds)
    np.testing.assert_array_equal(result.accuracies, accuracies)
    np.testing.assert_array_equal(result.thresholds, chosen)
    assert result.mean == pytest.approx(np.mean(accuracies)) and result.std == pytest.approx(np.std(accuracies))
    assert result.threshold == pytest.approx(np.mean(chosen))


def test_a_distance_on_the_threshold_is_not_accepted():
    # genuine at exactly 1.0, impostors at 1.01: only the threshold 1.01 judges all of them rightly
    distances = np.where(np.arange(20) % 2 == 0, THRESHOLDS[100], THRESHOLDS[101])
    result = kfold_accuracy(distances, np.arange(20) % 2 == 0)
    assert result.mean == 1.0 and result.threshold == pytest.approx(THRESHOLDS[101])


def test_the_lowest_of_equally_good_thresholds_is_taken():
    result = kfold_accuracy(np.tile([0.1, 3.0], 10), np.tile([True, False], 10))
    assert result.thresholds.tolist() == [THRESHOLDS[np.flatnonzero(THRESHOLDS > 0.1)[0]]] * 10


def test_pair_distances_are_of_normalised_rows():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(12, 5)).astype(np.float32) * 20
    expected = []
    for i in range(6):
        a, b = features[2 * i].astype(np.float64), features[2 * i + 1].astype(np.float64)
        a, b = a / np.sqrt(sum(a * a)), b / np.sqrt(sum(b * b))
        expected.append(sum((a - b) ** 2))
    np.testing.assert_allclose(pair_distances(features), expected, rtol=1e-12)
    assert pair_distances(np.array([[0.0, 0.0], [0.0, 2.0]])).tolist() == [1.0]


@given(
    values=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60).filter(
        lambda pairs: 0 < sum(same for _, same in pairs) < len(pairs)
    )
)
@settings(max_examples=60, deadline=None)
def test_roc_with_ties_is_scikit_learns(values):
    scores = np.array([value for value, _ in values], dtype=np.float64)
    same = np.array([flag for _, flag in values])
    full = roc(scores, same)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_array_equal(full.far, far)
    np.testing.assert_array_equal(full.tar, tar)
    far, tar, _ = roc_curve(same, scores)
    np.testing.assert_array_equal(full.corners.far, far)
    np.testing.assert_array_equal(full.corners.tar, tar)
    assert auc(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)
    # the definition: share of (genuine, impostor) pairs in the right order, a tie counting one half
    margins = np.sign(scores[same][:, None] - scores[~same][None, :])
    assert auc(scores, same) == pytest.approx((margins + 1).mean() / 2, abs=1e-12)


@pytest.mark.parametrize("step", [0.0, 0.1])
def test_tar_at_far_is_the_definition(step):
    distances, same = make_pairs(400, seed=4, step=step)
    scores, fars = -distances, [0.0, 1e-3, 1e-2, 0.033, 0.1, 0.5, 1.0]
    far, tar, _ = roc_curve(same, scores)
    far, tar = far[::-1], tar[::-1]
    for point, wanted in zip(tar_at_far(scores, same, fars), fars, strict=True):
        strict = 0.0
        for threshold in np.unique(scores):
            accepted = scores >= threshold
            if (accepted & ~same).sum() / (~same).sum() <= wanted:
                strict = max(strict, (accepted & same).sum() / same.sum())
        assert point.far == wanted and point.strict == strict
        assert point.nearest == tar[np.argmin(np.abs(far - wanted))]


def test_nearest_and_strict_differ():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    same = np.array([True, False, True, False])
    (point,) = tar_at_far(scores, same, [0.4])  # one impostor of two is a FAR of 0.5
    assert point.strict == 0.5 and point.nearest == 1.0


def test_a_curve_can_be_read_twice():
    distances, same = make_pairs(50, seed=5)
    assert tar_at_far(roc(-distances, same), None, [0.1]) == tar_at_far(-distances, same, [0.1])


def test_arguments_are_not_changed():
    distances, same = make_pairs(50, seed=6)
    distances.setflags(write=False)
    same.setflags(write=False)
    kfold_accuracy(distances, same)
    tar_at_far(distances, same, [0.1])


GOOD = np.array([0.1, 0.2, 0.3, 0.4])
SAME = np.array([True, False, True, False])


@pytest.mark.parametrize("function", [lambda d, s: kfold_accuracy(d, s, 2), roc, auc])
@pytest.mark.parametrize(
    ("values", "same", "message"),
    [
        (GOOD, np.zeros(4, bool), "0 of 4 pairs are genuine"),
        (GOOD, np.ones(4, bool), "4 of 4 pairs are genuine"),
        (np.array([0.1, np.nan, np.inf, 0.4]), SAME, "not finite in 2 of 4 pairs, first pair 1"),
        (GOOD, SAME.astype(int), r"same is int64 \(4,\)"),
        (GOOD, SAME[:3], r"same is bool \(3,\)"),
    ],
)
def test_degenerate_pairs_are_named(function, values, same, message):
    with pytest.raises(DataError, match=message):
        function(values, same)


def test_fewer_pairs_than_folds():
    with pytest.raises(DataError, match="4 pairs cannot be split into 10 folds"):
        kfold_accuracy(GOOD, SAME)


def test_features_that_are_not_finite_or_not_pairs():
    features = np.ones((4, 3), np.float32)
    features[3, 1] = np.nan
    with pytest.raises(DataError, match="features are not finite in 1 of 4 rows, first row 3"):
        pair_distances(features)
    with pytest.raises(DataError, match=r"features are \(3, 3\)"):
        pair_distances(np.ones((3, 3)))


def test_far_outside_the_unit_interval():
    with pytest.raises(DataError, match="FAR 10 "):
        tar_at_far(GOOD, SAME, [10])

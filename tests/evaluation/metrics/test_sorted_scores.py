"""SortedScores against verification.roc, which counts every point, and scikit-learn's ROC."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from qgface_plugin.evaluation.metrics.sorted_scores import SortedScores
from qgface_plugin.evaluation.metrics.verification import roc, tar_at_far
from qgface_plugin.utils.errors import DataError

FARS = (0.0, 1e-3, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.7, 0.9, 1.0)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A few pairs of both kinds; in most sets few different scores, so that all kinds of ties occur."""
    random = np.random.default_rng(seed)
    count, values = random.integers(2, 40), random.integers(1, 20)
    scores = random.integers(0, values, count) / values if random.random() < 0.7 else random.standard_normal(count)
    same = random.random(count) < random.random()
    same[:2] = True, False
    return scores, same


@pytest.mark.parametrize("block", range(8))
def test_like_the_curve_of_all_points(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        scores, same = draw(seed)
        whole, ours = roc(scores, same), SortedScores(scores, same)
        corners = whole.corners
        assert np.array_equal(ours.corners.false_accepts, corners.false_accepts), seed
        assert np.array_equal(ours.corners.true_accepts, corners.true_accepts), seed
        assert tar_at_far(ours, None, FARS) == tar_at_far(whole, None, FARS), seed
        assert ours.auc == pytest.approx(whole.auc, abs=1e-14), seed


def test_like_scikit_learn() -> None:
    random = np.random.default_rng(5)
    same = random.random(20_000) < 0.01
    scores = random.standard_normal(20_000) + 2 * same
    scores[::7] = np.round(scores[::7], 1)
    ours = SortedScores(scores, same)
    far, tar, _ = roc_curve(same, scores)
    assert np.array_equal(ours.corners.far, far) and np.array_equal(ours.corners.tar, tar)
    assert ours.auc == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


def test_strict_by_counting() -> None:
    scores, same = draw(3)
    for far in FARS:
        best = 0.0
        for threshold in [*scores, np.inf]:
            if np.mean(scores[~same] >= threshold) <= far:
                best = max(best, np.mean(scores[same] >= threshold))
        assert tar_at_far(SortedScores(scores, same), None, [far])[0].strict == best


def test_all_scores_equal() -> None:
    ours = SortedScores(np.zeros(5), np.array([True, False, False, True, False]))
    assert ours.auc == 0.5
    assert tar_at_far(ours, None, [0.4])[0].strict == 0.0 and tar_at_far(ours, None, [0.6])[0].nearest == 1.0


def test_refused() -> None:
    same = np.array([True, False, False])
    with pytest.raises(DataError, match="scores are not finite in 1 of 3 pairs, first pair 2"):
        SortedScores(np.array([0.0, 1.0, np.nan]), same)
    with pytest.raises(DataError, match="not finite in 2 of 3 pairs, first pair 0"):
        SortedScores(np.array([-np.inf, 1.0, np.inf]), same)
    with pytest.raises(DataError, match="0 of 3 pairs are genuine"):
        SortedScores(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(DataError, match="3 of 3 pairs are genuine"):
        SortedScores(np.zeros(3), np.ones(3, bool))
    with pytest.raises(DataError, match=r"give \(N,\) and bool \(N,\)"):
        SortedScores(np.zeros(3), np.zeros(3, int))
    with pytest.raises(DataError, match="FAR 2 "):
        tar_at_far(SortedScores(np.arange(3.0), same), None, [2])

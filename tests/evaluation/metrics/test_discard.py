"""Error-versus-discard curves against loops in float64 over all thresholds of quality."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qgface_plugin.evaluation.metrics.discard import discard_curve, pair_quality
from qgface_plugin.utils.errors import DataError


def by_loop(scores: list[float], same: list[bool], quality: list[float], threshold: float) -> list[tuple[float, float]]:
    """(discarded share, FNMR) for every threshold of quality that leaves a pair, from the lowest on."""
    genuine = [(q, s) for q, s, flag in zip(quality, scores, same, strict=True) if flag]
    steps = []
    for least in sorted({q for q, _ in genuine}):
        left = [s for q, s in genuine if q >= least]
        steps.append((1 - len(left) / len(genuine), sum(s < threshold for s in left) / len(left)))
    return steps


def area_by_loop(steps: list[tuple[float, float]], limit: float, cells: int = 30_000) -> float:
    """Many thin slices: FNMR of the last step that discards no more than the slice's place."""
    total = 0.0
    for cell in range(cells):
        place = (cell + 0.5) / cells * limit
        total += [error for share, error in steps if share <= place][-1] * limit / cells
    return total


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans(), st.integers(0, 4)), min_size=4, max_size=40),
    st.sampled_from([0.3, 0.1, 1.0]),
)
@settings(max_examples=120, deadline=None)
def test_like_a_loop(values: list[tuple[int, bool, int]], limit: float) -> None:
    """With ties of scores and of quality; the order of pairs does not matter."""
    scores, same, quality = ([v[k] / (5 if k == 0 else 1) for v in values] for k in range(3))
    same = [bool(flag) for flag in same]
    same[0], same[1] = True, False
    curve = discard_curve(np.array(scores), np.array(same), np.array(quality), 0.5, limit)
    if curve.at.threshold is None:
        assert curve.fnmr is curve.area is curve.normalised is curve.gain is None and curve.at.reason
        return
    steps = by_loop(scores, same, quality, curve.at.threshold)
    np.testing.assert_allclose(curve.discarded, [share for share, _ in steps], atol=1e-15)
    np.testing.assert_allclose(curve.errors, [error for _, error in steps], atol=1e-15)
    edges = [*(min(share, limit) for share, _ in steps), limit]
    exact = sum((b - a) * error for a, b, (_, error) in zip(edges, edges[1:], steps, strict=False))
    assert curve.area == pytest.approx(exact, abs=1e-12)
    assert (
        curve.fnmr
        == steps[0][1]
        == sum(s < curve.at.threshold for s, f in zip(scores, same, strict=True) if f) / sum(same)
    )
    order = np.random.default_rng(0).permutation(len(scores))
    again = discard_curve(np.array(scores)[order], np.array(same)[order], np.array(quality)[order], 0.5, limit)
    assert again.as_dict() == curve.as_dict()
    json.dumps(curve.as_dict(), allow_nan=False)


def test_area_in_thin_slices() -> None:
    random = np.random.default_rng(1)
    same = random.random(300) < 0.5
    scores = random.standard_normal(300) + same
    quality = np.round(scores + random.standard_normal(300), 1)
    curve = discard_curve(scores, same, quality, 0.05)
    steps = by_loop(scores.tolist(), same.tolist(), quality.tolist(), curve.at.threshold)
    assert curve.area == pytest.approx(area_by_loop(steps, 0.3), rel=1e-3)
    assert curve.normalised == pytest.approx(curve.area / 0.3 / curve.fnmr) and curve.normalised < 1
    for share in (0, 0.1, 0.25, 0.9):
        assert curve.fnmr_at(share) == [error for at, error in steps if at <= share + 1e-12][-1]


def test_constant_and_perfect_and_reversed_quality() -> None:
    same = np.repeat([True, False], 1000)
    scores = np.concatenate([np.linspace(0, 1, 1000), np.linspace(-1, 0.4, 1000)])
    constant = discard_curve(scores, same, np.ones(2000), 0.1)
    assert constant.discarded.tolist() == [0] and constant.fnmr_at(0.99) == constant.fnmr > 0.2
    assert constant.normalised == pytest.approx(1) and constant.gain == pytest.approx(0)
    perfect = discard_curve(scores, same, scores, 0.1)
    assert perfect.gain == pytest.approx(1, abs=0.01) and perfect.normalised < 0.7
    assert perfect.fnmr_at(perfect.fnmr) == 0
    wrong = discard_curve(scores, same, -scores, 0.1)
    assert wrong.normalised > 1 and wrong.gain < 0
    # a random quality is worth nothing, whatever its values
    random = discard_curve(scores, same, np.random.default_rng(0).random(2000), 0.1)
    assert abs(random.gain) < 0.15


def test_pairs_without_a_score_go_first() -> None:
    assert pair_quality(np.array([3.0, 1.0, -np.inf]), np.array([2.0, 5.0, 9.0])).tolist() == [2, 1, -np.inf]
    scores, same = np.array([0.1, 0.9, 0.8, 0.2, 0.3]), np.array([True, True, True, False, False])
    curve = discard_curve(scores, same, np.array([-np.inf, 0.0, 1.0, 0.0, 5.0]), 0.5)
    assert curve.fnmr == pytest.approx(1 / 3) and curve.fnmr_at(1 / 3) == 0


def test_what_has_no_curve() -> None:
    same = np.arange(100) < 50
    scores, quality = np.linspace(1, -1, 100), np.arange(100.0)
    few = discard_curve(scores, same, quality, 1e-3)
    assert few.at.reason == "50 impostor pairs show no FAR below 2.0e-02" and few.as_dict()["errors"] == []
    assert few.fnmr_at(0.1) is None
    easy = discard_curve(scores, same, quality, 0.5)  # nothing is refused: nothing to gain, and no division by zero
    assert easy.fnmr == easy.area == 0 and easy.normalised is easy.gain is None
    with pytest.raises(DataError, match=r"quality is \(3,\)"):
        discard_curve(scores, same, np.ones(3), 0.5)
    with pytest.raises(DataError, match="not a number, or infinite, of 2 of 100"):
        discard_curve(scores, same, np.append(quality[:98], [np.nan, np.inf]), 0.5)
    with pytest.raises(DataError, match="limit is 0"):
        discard_curve(scores, same, quality, 0.5, 0)

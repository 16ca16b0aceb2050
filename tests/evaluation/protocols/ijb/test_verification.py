"""1:1 against one dot product at a time and scikit-learn's ROC."""

from __future__ import annotations

import numpy as np
import pytest
from ijb_sets import embeddings_of, images_of
from sklearn.metrics import roc_auc_score, roc_curve

from qgface_plugin.evaluation.protocols.ijb import verification
from qgface_plugin.evaluation.protocols.ijb.metadata import IjbPairs
from qgface_plugin.evaluation.protocols.ijb.tables import threshold_table
from qgface_plugin.evaluation.protocols.ijb.templates import DEFAULT_MODE, Mode, TemplatePlan
from qgface_plugin.evaluation.protocols.ijb.verification import FARS, PairRows, pair_scores, verify
from qgface_plugin.utils.errors import DataError


@pytest.mark.parametrize(("block_bytes", "dense"), [(1 << 28, 100), (8 * 17 * 3, 100), (8 * 17 * 3, 1), (1, 0)])
def test_scores_like_loops(monkeypatch: pytest.MonkeyPatch, block_bytes: int, dense: int) -> None:
    monkeypatch.setattr(verification, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(verification, "DENSE", dense)
    monkeypatch.setattr(verification, "ROW_PAIRS", 5)
    random = np.random.default_rng(0)
    features = random.standard_normal((30, 8))
    first, second = random.choice([0, 3, 5, 6, 7, 11, 29, 20], 70), random.choice(np.arange(5, 25), 70)
    scores = pair_scores(features, first.astype(np.int32), second.astype(np.int32))
    for score, a, b in zip(scores, first, second, strict=True):
        assert score == pytest.approx(sum(x * y for x, y in zip(features[a], features[b], strict=True)), abs=1e-12)


def test_verify() -> None:
    random = np.random.default_rng(1)
    templates = TemplatePlan(images_of(list(range(40)), list(range(40)))).templates(embeddings_of(40, 16))
    first = random.integers(0, 40, 900)
    # No template with itself: those pairs differ from 1 by rounding only, which no two programs do alike.
    pairs = IjbPairs(first, (first + random.integers(1, 40, 900)) % 40, random.random(900) < 0.2)
    result = verify(templates, PairRows.of(pairs, templates), DEFAULT_MODE)
    # Both directions of a pair have one score, here and there.
    scores = (templates.features[pairs.first] * templates.features[pairs.second]).sum(axis=1)
    far, tar, _ = roc_curve(pairs.same, scores)
    assert result.auc == pytest.approx(roc_auc_score(pairs.same, scores), abs=1e-12)
    assert (result.pairs, result.genuine) == (900, pairs.same.sum())
    for at, point in zip(FARS, result.tar_at_far, strict=True):
        assert point.far == at
        assert point.nearest == tar[::-1][np.argmin(np.abs(far[::-1] - at))]
        assert point.strict == tar[far <= at].max()
        if result.thresholds.points[FARS.index(at)].threshold is not None:
            assert result.thresholds.points[FARS.index(at)].tar == point.strict
    saved = result.as_dict()
    assert saved["mode"] == "N0D1F1" and saved["tar_at_far"][5]["far"] == 0.1 and "corners" not in saved
    assert result.thresholds.flip_fusion and len(saved["thresholds"]["points"]) == 6
    last = saved["thresholds"]["points"][5]
    far, tar, thresholds = roc_curve(pairs.same, scores, drop_intermediate=False)
    assert last["threshold"] == pytest.approx(thresholds[np.flatnonzero(far <= 0.1)[-1]], abs=1e-12)


def test_people_are_what_genuine_pairs_join() -> None:
    """Twelve people of three templates, paired with each other: a bootstrap over twelve."""
    templates = TemplatePlan(images_of(list(range(36)), list(range(36)))).templates(embeddings_of(36, 8))
    first, second = (one.ravel() for one in np.meshgrid(np.arange(36), np.arange(36)))
    below = first < second
    first, second = first[below], second[below]
    rows = PairRows.of(IjbPairs(first, second, first // 3 == second // 3), templates)
    assert rows.people.count == 12 and (rows.people.first == first // 3).all()
    result = verify(templates, rows, Mode(flip=False))
    assert result.thresholds.interval.startswith("bootstrap over 12 people, 95 % (templates that genuine pairs join")
    assert not result.thresholds.flip_fusion
    shown = threshold_table("IJBB", [result])
    assert "594 impostor pairs show no FAR below 1.7e-03" in shown and "without flip fusion" in shown
    assert f"{result.thresholds.points[4].threshold:.4f}" in shown


def test_ties_stay_ties() -> None:
    features = np.random.default_rng(3).standard_normal((257, 31))
    features[200:] = features[100:157]
    first = np.concatenate([np.arange(257), np.full(257, 100), np.full(257, 200)])
    second = np.concatenate([np.full(257, 100), np.arange(257), np.arange(257)])
    scores = pair_scores(features, first.astype(np.int32), second.astype(np.int32)).reshape(3, 257)
    assert (scores == scores[0]).all()
    assert (scores[:, 200:] == scores[:, 100:157]).all()


@pytest.mark.parametrize(("block_bytes", "dense"), [(1 << 28, 100), (8 * 17 * 3, 100), (1, 0)])
def test_scores_with_another_model_of_the_gallery(
    monkeypatch: pytest.MonkeyPatch, block_bytes: int, dense: int
) -> None:
    """The first of a pair is enrolled: a score has a direction, and equal features have one score still."""
    monkeypatch.setattr(verification, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(verification, "DENSE", dense)
    random = np.random.default_rng(4)
    features, enrolled = random.standard_normal((2, 30, 8))
    features[20:] = features[10:20]
    enrolled[7] = enrolled[3]
    first, second = random.choice([0, 3, 5, 7, 29], 200), random.integers(0, 30, 200)
    scores = pair_scores(features, first.astype(np.int32), second.astype(np.int32), enrolled)
    for score, a, b in zip(scores, first, second, strict=True):
        assert score == pytest.approx(sum(x * y for x, y in zip(enrolled[a], features[b], strict=True)), abs=1e-12)
    seen: dict[tuple[int, int], float] = {}
    for score, a, b in zip(scores, first, second, strict=True):
        key = (3 if a == 7 else int(a), int(b) - 10 if b >= 20 else int(b))
        assert seen.setdefault(key, score) == score


def test_one_template() -> None:
    templates = TemplatePlan(images_of([4, 4], [1, 2])).templates(embeddings_of(2))
    rows = PairRows.of(IjbPairs(np.array([4, 4]), np.array([4, 4]), np.array([True, False])), templates)
    assert verify(templates, rows, DEFAULT_MODE).auc == 0.5


def test_refused() -> None:
    templates = TemplatePlan(images_of([1, 2], [1, 2])).templates(embeddings_of(2))
    one = np.ones(1, np.int64)
    with pytest.raises(DataError, match="pairs of the 1:1 protocol: 1 templates have no images: 7"):
        PairRows.of(IjbPairs(one, 7 * one, np.ones(1, bool)), templates)
    with pytest.raises(DataError, match="there are no pairs"):
        PairRows.of(IjbPairs(one[:0], one[:0], np.zeros(0, bool)), templates)
    with pytest.raises(DataError, match="1 of 1 pairs are genuine"):
        verify(templates, PairRows.of(IjbPairs(one, 2 * one, np.ones(1, bool)), templates), DEFAULT_MODE)

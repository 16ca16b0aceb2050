"""Identification against loops written from the definitions, over sorted lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qgface_plugin.evaluation.metrics.identification import (
    Ranking,
    cmc,
    mean_average_precision,
    rank_blocks,
    rank_features,
    rank_rate,
    similarity_blocks,
    tpir_at_fpir,
)
from qgface_plugin.utils.errors import DataError


def naive(similarities, probe_ids, gallery_ids):
    """For every probe: (rank of the best mate, its similarity, best other, average precision) from a sorted list."""
    answers = []
    for row, who in zip(similarities, probe_ids, strict=True):
        entries = [(float(s), owner == who and who >= 0) for s, owner in zip(row, gallery_ids, strict=True)]
        entries.sort(key=lambda entry: (-entry[0], entry[1]))  # of equals, those of others first
        places = [place for place, (_, is_mate) in enumerate(entries, 1) if is_mate]
        precisions = [sum(mate for _, mate in entries[:place]) / place for place in places]
        others = [s for s, is_mate in entries if not is_mate]
        answers.append(
            (
                places[0] if places else 0,
                entries[places[0] - 1][0] if places else float("nan"),
                others[0] if others else float("-inf"),
                sum(precisions) / len(precisions) if places else float("nan"),
            )
        )
    return answers


def naive_tpir(answers, fpir, k=1):
    """The best TPIR over all thresholds with FPIR <= fpir; an alarm is a similarity above the threshold."""
    mated = [(rank, mate) for rank, mate, _, _ in answers if rank]
    alarms = [other for rank, _, other, _ in answers if not rank]
    best = 0.0
    for threshold in [float("-inf"), *alarms, *(mate for _, mate in mated)]:
        if sum(alarm > threshold for alarm in alarms) / len(alarms) <= fpir:
            best = max(best, sum(rank <= k and mate > threshold for rank, mate in mated) / len(mated))
    return best


def assert_is_naive(ranking: Ranking, answers) -> None:
    rank, mate, other, precision = (np.array(column) for column in zip(*answers, strict=True))
    np.testing.assert_array_equal(ranking.rank, rank)
    np.testing.assert_array_equal(ranking.mate, mate)
    np.testing.assert_array_equal(ranking.other, other)
    np.testing.assert_allclose(ranking.average_precision, precision, rtol=1e-12)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 15), st.integers(1, 6), st.sampled_from([0, 0.5, 0.1])
)
@settings(max_examples=150, deadline=None)
def test_every_number_is_the_definition(seed, probes, gallery, identities, step):
    """Random similarities, many of them equal when `step` rounds them; some identities nobody's."""
    rng = np.random.default_rng(seed)
    similarities = rng.uniform(-1, 1, (probes, gallery))
    if step:
        similarities = np.round(similarities / step) * step
    probe_ids, gallery_ids = rng.integers(-1, identities, probes), rng.integers(-1, identities, gallery)
    answers = naive(similarities, probe_ids, gallery_ids)
    ranking = rank_blocks([similarities[:5], similarities[5:]], probe_ids, gallery_ids)
    assert_is_naive(ranking, answers)
    places = [rank for rank, *_ in answers if rank]
    if not places:
        with pytest.raises(DataError, match="nobody can be identified"):
            rank_rate(ranking, 1)
        return
    for k in (1, 2, 5):
        assert rank_rate(ranking, k) == pytest.approx(sum(place <= k for place in places) / len(places))
    np.testing.assert_allclose(cmc(ranking, 5), [sum(p <= k for p in places) / len(places) for k in range(1, 6)])
    assert mean_average_precision(ranking) == pytest.approx(np.nanmean([a[3] for a in answers]))
    if len(places) < probes:
        for point in tpir_at_fpir(ranking, [0.0, 0.1, 0.34, 0.5, 1.0], k=2):
            assert point.tpir == pytest.approx(naive_tpir(answers, point.fpir, k=2))


def test_cosines_of_features_of_any_norm():
    rng = np.random.default_rng(0)
    probes, gallery = rng.normal(size=(9, 6)), rng.normal(size=(20, 6)) * rng.uniform(0.1, 50, (20, 1))
    probes[2] = 0  # a row of zeros is similar to nothing
    expected = np.array([[p @ g / (np.linalg.norm(p) or 1) / np.linalg.norm(g) for g in gallery] for p in probes])
    blocks = list(similarity_blocks(probes, gallery, block_bytes=4 * 20 * 4))
    assert [len(block) for block in blocks] == [4, 4, 1] and blocks[0].dtype == np.float32
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-6)
    assert not blocks[0][2].any()


@pytest.mark.parametrize("block_bytes", [1, 700, 2**20])
def test_blocks_do_not_change_the_answer(block_bytes):
    rng = np.random.default_rng(1)
    probe_ids, gallery_ids = rng.integers(0, 9, 40), rng.integers(-1, 9, 70)
    centres = rng.normal(size=(10, 16))
    probes, gallery = (centres[ids] + rng.normal(size=(len(ids), 16)) for ids in (probe_ids, gallery_ids))
    ranking = rank_features(probes, probe_ids, gallery, gallery_ids, block_bytes=block_bytes)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (probes, gallery)]
    answers = naive(unit[0] @ unit[1].T, probe_ids, gallery_ids)
    np.testing.assert_array_equal(ranking.rank, [a[0] for a in answers])
    np.testing.assert_allclose(ranking.average_precision, [a[3] for a in answers])
    np.testing.assert_allclose(ranking.mate, [a[1] for a in answers], atol=1e-6)


def test_equal_features_identify_nobody():
    ids = np.arange(6)
    ranking = rank_blocks([np.ones((6, 6))], ids, ids)
    assert ranking.rank.tolist() == [6] * 6 and rank_rate(ranking, 5) == 0 and rank_rate(ranking, 6) == 1
    assert mean_average_precision(ranking) == pytest.approx(1 / 6)


def test_a_distractor_with_the_same_image():
    gallery = np.array([[1.0, 0], [0, 1], [0, 1]])
    ranking = rank_features(gallery[:2], np.array([4, 5]), gallery, np.array([4, 5, -1]))
    assert ranking.rank.tolist() == [1, 2]


def test_nobody_matches_nobody():
    ranking = rank_blocks([np.ones((2, 2))], np.array([-1, 3]), np.array([-1, 3]))
    assert ranking.mates.tolist() == [0, 1] and ranking.rank.tolist() == [0, 2]


def test_a_gallery_of_mates_only():
    ranking = rank_blocks([np.array([[0.1, 0.2]])], np.array([1]), np.array([1, 1]))
    assert ranking.other.tolist() == [-np.inf] and ranking.rank.tolist() == [1] and ranking.mate.tolist() == [0.2]
    assert mean_average_precision(ranking) == 1


def test_select_keeps_the_chosen_probes():
    ranking = rank_blocks([np.array([[0.9, 0.1], [0.9, 0.1]])], np.array([0, 1]), np.array([0, 1]))
    assert ranking.select(np.array([False, True])).rank.tolist() == [2] and len(ranking.select(np.array([0, 0]))) == 2


def test_tpir_by_hand():
    """Four probes without a mate at 0.1 ... 0.4; mates at 0.05, 0.25, 0.35, 0.5, the last one not in first place."""
    mate = np.array([0.05, 0.25, 0.35, 0.5] + [np.nan] * 4)
    other = np.array([0.0, 0.0, 0.0, 0.6, 0.3, 0.1, 0.4, 0.2])
    rank = np.array([1, 1, 1, 2, 0, 0, 0, 0])
    ranking = Ranking((rank > 0).astype(int), rank, mate, other, np.ones(8))
    points = tpir_at_fpir(ranking, [0.0, 0.25, 0.5, 0.99, 1.0])
    assert [point.tpir for point in points] == [0, 0.25, 0.5, 0.5, 0.75]
    # An alarm is at least the threshold: the lowest of the alarms and found mates that are left.
    assert [point.threshold for point in points] == [None, 0.35, 0.25, 0.2, 0.05]
    assert [point.false_alarms for point in points] == [0, 1, 2, 3, 4] and {point.unmated for point in points} == {4}
    assert [point.found for point in points] == [0, 1, 2, 2, 3] and {point.mated for point in points} == {4}
    assert points[0].reason == "4 probes without a mate show no FPIR below 2.5e-01"
    # insightface's thresholds: the alarm that still has to be refused is one higher, at least the highest of all
    assert [point.insightface for point in points] == [0, 0, 0.25, 0.5, 0.5]
    assert tpir_at_fpir(ranking, [0.0], k=2)[0].tpir == 0.25


def test_fpir_is_not_lost_to_rounding():
    """0.29 x 100 is 28.999...: 29 false alarms of 100 are an FPIR of 0.29."""
    alarms = np.arange(100) / 100
    ranking = Ranking(
        np.array([1] + [0] * 100), np.array([1] + [0] * 100), np.append(0.705, np.full(100, np.nan)),
        np.append(0, alarms), np.ones(101),
    )  # fmt: skip
    (point,) = tpir_at_fpir(ranking, [0.29])
    assert point.threshold == 0.705 and point.tpir == 1 and point.false_alarms == 29


@pytest.mark.parametrize(
    ("probes", "gallery", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"probes are \(2, 3\) and the gallery is \(2, 4\)"),
        (np.ones((2, 3)), np.ones((0, 3)), "2 probes and 0 gallery entries"),
        (np.ones((0, 3)), np.ones((2, 3)), "0 probes and 2 gallery entries"),
        (np.array([[1.0, 1], [np.nan, 1]]), np.ones((2, 2)), "probes: features are not finite in 1 of 2 rows, .* 1"),
        (np.ones((2, 2)), np.array([[np.inf, 1], [1, 1]]), "gallery: features are not finite in 1 of 2 rows, .* 0"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit(probes, gallery, message):
    ids = np.zeros(max(len(probes), 1), dtype=int), np.zeros(max(len(gallery), 1), dtype=int)
    with pytest.raises(DataError, match=message):
        rank_features(probes, ids[0], gallery, ids[1])


@pytest.mark.parametrize(
    ("blocks", "probe_ids", "gallery_ids", "message"),
    [
        ([np.ones((2, 3))], [0, 1], [0, 1], r"a block of similarities is \(2, 3\) after 0 probes"),
        ([np.ones((2, 2)), np.ones((1, 2))], [0, 1], [0, 1], r"is \(1, 2\) after 2 probes: there are 2 probe_ids"),
        ([np.ones((1, 2))], [0, 1], [0, 1], "similarities of 1 probes for 2 probe_ids"),
        ([np.array([[1.0, 1], [1, np.nan]])], [0, 1], [0, 1], "1 probes are not finite, first of probe 1"),
        ([np.ones((1, 1))], [], [0], "probe_ids are"),
        ([np.ones((1, 1))], [0], [0.5], r"gallery_ids are float64 \(1,\)"),
    ],
)  # fmt: skip
def test_blocks_that_do_not_fit(blocks, probe_ids, gallery_ids, message):
    with pytest.raises(DataError, match=message):
        rank_blocks(blocks, np.array(probe_ids), np.array(gallery_ids))


def test_questions_without_an_answer():
    ranking = rank_blocks([np.ones((1, 1))], np.array([0]), np.array([0]))
    with pytest.raises(DataError, match="all 1 probes have a mate"):
        tpir_at_fpir(ranking, [0.1])
    for rate in (rank_rate, cmc):
        with pytest.raises(DataError, match="rank 0"):
            rate(ranking, 0)
    unknown = rank_blocks([np.ones((2, 1))], np.array([0, 5]), np.array([0]))
    with pytest.raises(DataError, match=r"FPIR 1.5"):
        tpir_at_fpir(unknown, [1.5])


def test_arguments_stay_as_they_are():
    block = np.random.default_rng(0).random((3, 3))
    before = block.copy()
    rank_blocks([block], np.arange(3), np.arange(3))
    np.testing.assert_array_equal(block, before)


def test_progress_only_with_a_label(capsys):
    one = np.ones((1, 2))
    rank_features(one, np.array([0]), one, np.array([0]))
    assert capsys.readouterr().err == ""
    rank_features(one, np.array([0]), one, np.array([0]), progress="search")
    assert "search" in capsys.readouterr().err

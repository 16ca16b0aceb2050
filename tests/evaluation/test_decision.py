"""Decisions by saved thresholds: which one is taken, and when nobody can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qgface_plugin.evaluation.decision import DIFFERENT, SAME, UNKNOWN, Origin, decide, threshold_in
from qgface_plugin.evaluation.metrics.thresholds import find_thresholds
from qgface_plugin.evaluation.report.results import write_result
from qgface_plugin.utils.errors import DataError

ORIGIN = Origin(0.4, 1e-3, "lfw", 3000, 3, "", "pairs.json")
GOOD = {"a": 50.0, "b": 60.0}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    sets = {}
    for name, impostors in (("few", 50), ("many", 2000)):
        scores, same = rng.normal(size=impostors + 40), np.arange(impostors + 40) < 40
        points = {
            key: find_thresholds(scores + shift, same, [1e-3, 1e-2], flip).as_dict()
            for key, shift, flip in (("thresholds", 0, True), ("single_thresholds", 5, False))
        }
        sets[name] = points
    path = tmp_path / "pairs.json"
    write_result("pairs", data=tmp_path, model="m.pt", settings={"sha256": "ab"}, results={"sets": sets}, path=path)
    return path


def test_at_above_and_below_the_threshold() -> None:
    for cosine, verdict in ((0.4, SAME), (0.41, SAME), (0.3999, DIFFERENT), (-1, DIFFERENT)):
        assert decide(cosine, ORIGIN, GOOD).verdict == verdict


def test_cannot_tell() -> None:
    for qualities in ({"a": 4.9, "b": 60.0}, {"a": 60.0, "b": float("nan")}):
        found = decide(0.9, ORIGIN, qualities, 5)
        assert found.verdict == UNKNOWN and len(found.reasons) == 1 and "below 5" in found.reasons[0]
    assert decide(0.9, ORIGIN, {"a": 5.0, "b": 5.0}, 5).verdict == SAME
    assert "no threshold" in decide(0.9, None, GOOD).reasons[0]
    unsupported = Origin(None, 1e-6, "lfw", 3000, 0, "3,000 impostor pairs show no FAR below 3.3e-04", "pairs.json")
    assert decide(0.9, unsupported, GOOD).reasons == (
        "there is no threshold for FAR 1e-06: 3,000 impostor pairs show no FAR below 3.3e-04",
    )
    assert "3,000" in unsupported.words and "it accepts 3 of 3,000 impostor pairs (pairs.json)" in ORIGIN.words


def test_the_set_with_most_impostors_or_the_named_one(results: Path) -> None:
    origin, result = threshold_in(results, 1e-3, True)
    assert (origin.set, origin.impostors, result.settings["sha256"]) == ("many", 2000, "ab")
    assert origin.threshold is not None and origin.false_accepts <= 2
    alone, _ = threshold_in(results, 1e-3, False)
    assert alone.threshold == pytest.approx(origin.threshold + 5)
    few, _ = threshold_in(results, 1e-3, True, "few")
    assert few.threshold is None and "50 impostor pairs" in few.reason
    with pytest.raises(DataError, match="no set lfw in it but few, many"):
        threshold_in(results, 1e-3, True, "lfw")
    with pytest.raises(DataError, match=r"at FAR 0\.0001 but at 0\.001, 0\.01: qgface eval-pairs --far 0\.0001"):
        threshold_in(results, 1e-4, True)


def test_results_without_thresholds(tmp_path: Path) -> None:
    for sets in ({}, {"lfw": {"thresholds": {"points": [{"far": "x"}]}}}, {"lfw": 3}):
        write_result("pairs", data=".", model="m", settings={}, results={"sets": sets}, path=tmp_path / "p.json")
        with pytest.raises(DataError, match="no thresholds"):
            threshold_in(tmp_path / "p.json", 1e-3, True)

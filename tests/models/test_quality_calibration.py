"""Percentiles of a reference against counting, and what files and graphs keep of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qgface_plugin.models.quality_calibration import METADATA_KEY, QualityCalibration
from qgface_plugin.utils.errors import DataError


def test_percentile_is_a_count() -> None:
    """Within one percent of the share of the reference that is lower, for norms of any distribution."""
    random = np.random.default_rng(0)
    norms = np.concatenate([random.normal(20, 3, 5000), random.gamma(2, 4, 3000)])
    calibration = QualityCalibration.of_norms(norms, "r", "")
    asked = np.array([-1.0, 3.0, 18.2, 20.0, 29.5, norms.min(), norms.max(), 99.0])
    for norm, found in zip(asked, calibration.percentile(asked), strict=True):
        assert found == pytest.approx(100 * np.mean(norms < norm), abs=1)
    assert calibration.percentile(np.array([-1.0, 99.0])).tolist() == [0, 100]
    assert (np.diff(calibration.percentile(np.linspace(0, 40, 500))) >= 0).all()


def test_equal_norms_count_half() -> None:
    calibration = QualityCalibration.of_norms(np.repeat([1.0, 5.0, 9.0], [20, 60, 20]), "r", "")
    assert calibration.percentile(np.array([0.0, 5.0, 10.0])) == pytest.approx([0, 50, 100], abs=1.5)
    flat = QualityCalibration.of_norms(np.full(9, 7.0), "r", "")
    assert flat.percentile(np.array([6.9, 7.0, 7.1, np.nan]))[:3].tolist() == [0, 50, 100]
    assert flat.words(7.0) == "better than 50 % of r"


def test_files_and_metadata(tmp_path: Path) -> None:
    calibration = QualityCalibration.of_norms(np.random.default_rng(1).random(500), "ärchive", "ab" * 32)
    calibration.save(tmp_path / "c.json")
    assert QualityCalibration.load(tmp_path / "c.json") == calibration
    metadata = json.loads(json.dumps(calibration.as_metadata()))
    assert QualityCalibration.from_metadata(metadata) == calibration
    assert QualityCalibration.from_metadata({"network": "r34"}) is None
    calibration.check_model("ab" * 32, "mine")
    with pytest.raises(DataError, match="by ärchive is of another model than other.pt .*not cdcdcdcdcdcd"):
        calibration.check_model("cd" * 32, "other.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norms": [1.0] * 100}, "101 numbers in ascending order"),
        ({"norms": [2.0] + [1.0] * 100}, "101 numbers"),
        ({"norms": ["1"] * 101}, "101 numbers"),
        ({"norms": None}, "101 numbers"),
        ({"images": 1}, "101 numbers"),
        ({"reference": 3}, "101 numbers"),
        ({"format": 2}, "of a later version"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, change: dict, message: str) -> None:
    content = QualityCalibration.of_norms(np.arange(9.0), "r", "").as_dict() | change
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        QualityCalibration.load(tmp_path / "c.json")
    with pytest.raises(DataError, match="no quality calibration: it has format, "):
        QualityCalibration.from_metadata({METADATA_KEY: "[1]"})


def test_references_that_do_not_fit() -> None:
    for norms in (np.array([1.0]), np.array([1.0, np.nan]), np.ones((2, 2))):
        with pytest.raises(DataError, match="two at least, all finite"):
            QualityCalibration.of_norms(norms, "r", "")

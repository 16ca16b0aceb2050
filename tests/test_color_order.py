"""RGB or BGR: models that were made for one order of channels, fed with either."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from qgface_plugin.evaluation.features import Embeddings
from qgface_plugin.evaluation.models import check_color_order
from qgface_plugin.evaluation.models.color_order import _separation, _standard_error
from qgface_plugin.utils.errors import DataError


class RedModel:
    """Sees the first channel of what it is given, in blocks; noise is in the third one."""

    name = "red"

    def __init__(self, color: str = "rgb", both: bool = False) -> None:
        self.color, self.both, self.embedded = color, both, 0

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        self.embedded += len(images)
        seen = images if self.color == "rgb" else images[..., ::-1]
        seen = seen.mean(3) if self.both else seen[..., 0]
        features = seen.reshape(len(images), 7, 16, 7, 16).mean((2, 4)).reshape(len(images), 49) - 127.5
        return Embeddings(features.astype(np.float32), features.astype(np.float32))


def pairs(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Genuine pairs share the pattern of their red channel; blue is noise."""
    rng = np.random.default_rng(0)
    same = np.arange(count) % 4 < 2
    red = rng.integers(0, 256, (count, 2, 7, 7))
    red[same, 1] = (red[same, 0] + red[same, 1]) // 2
    images = rng.integers(0, 256, (2 * count, 112, 112, 3), dtype=np.uint8)
    images[..., 0] = np.kron(red.reshape(-1, 7, 7), np.ones((1, 16, 16))).astype(np.uint8)
    return images, same


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_the_wrong_order_is_a_warning(color: str, caplog: pytest.LogCaptureFixture) -> None:
    """A BGR model named as such turns RGB images itself, so the data is what is turned here."""
    images, same = pairs()
    right = images if color == "rgb" else images[..., ::-1]
    with caplog.at_level(logging.WARNING):
        assert check_color_order(RedModel(color), right, same).warning is None
        assert not caplog.records
        found = check_color_order(RedModel(color), right[..., ::-1], same)
    other = "bgr" if color == "rgb" else "rgb"
    assert found.warning is not None and found.warning.endswith(f"use --color {other}")
    assert caplog.records[0].message == f"red: {found.warning}"
    assert found.auc < 0.7 and found.other_auc > 0.9


def test_no_warning_where_the_order_does_not_matter() -> None:
    images, same = pairs()
    found = check_color_order(RedModel(both=True), images, same)
    assert found.separation == found.other_separation and found.warning is None


def test_separation_is_the_definition() -> None:
    distances, same = np.array([1.0, 2.0, 5.0, 9.0, 4.0]), np.array([True, True, False, False, False])
    expected = (6.0 - 1.5) / np.sqrt((0.25 + 14 / 3) / 2)
    assert _separation(distances, same) == pytest.approx(expected)


def test_standard_error_is_about_the_spread_of_many_samples() -> None:
    """Independent samples of the same two models: their differences spread as the error of each one says."""
    rng = np.random.default_rng(1)
    same = np.arange(200) < 100
    differences, errors = [], []
    for _ in range(60):
        given = rng.normal(np.where(same, 0, 2), 1)
        other = given + rng.normal(0, 0.5, 200)
        differences.append(_separation(other, same) - _separation(given, same))
        errors.append(_standard_error(given, other, same))
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.3)


def test_sample_and_given_embeddings() -> None:
    images, same = pairs()
    model = RedModel()
    embeddings = model.embed(images)
    model.embedded = 0
    found = check_color_order(model, images, same, pairs=10, embeddings=embeddings)
    assert found.pairs == 10 and model.embedded == 20
    again = check_color_order(model, images, same, pairs=10)
    assert again == found and model.embedded == 60


@pytest.mark.parametrize("same", [np.ones(40, bool), np.arange(40) > 0])
def test_both_kinds_are_needed(same: np.ndarray) -> None:
    with pytest.raises(DataError, match="the check needs two of each"):
        check_color_order(RedModel(), pairs()[0], same)
    with pytest.raises(DataError, match="80 images for 39 pairs"):
        check_color_order(RedModel(), pairs()[0], same[1:])

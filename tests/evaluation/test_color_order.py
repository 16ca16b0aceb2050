"""RGB or BGR: models that were made for one order of channels, fed with either."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from identification_sets import BlockModel, write_scface

from qgface_plugin.evaluation import color_order
from qgface_plugin.evaluation.color_order import _separation, _standard_error, check_color_of_files, check_color_order
from qgface_plugin.evaluation.protocols.scface import near_probes
from qgface_plugin.evaluation.protocols.scface_files import read_scface
from qgface_plugin.models.embeddings import Embeddings
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


def test_standard_error_against_many_samples() -> None:
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


# --- The check of the order of channels on files: which pairs it takes, and that it warns -----------------------------


def test_pairs_are_probes_with_a_mate_and_a_stranger(tmp_path, monkeypatch):
    found = {}
    monkeypatch.setattr(color_order, "check_color_order", lambda *given: found.update(given=given))
    images = read_scface(write_scface(tmp_path, subjects=10))
    check_color_of_files(BlockModel(), *near_probes(images), pairs=8, batch_size=5)
    _, pixels, same, pairs, batch_size = found["given"]
    assert (pairs, batch_size) == (8, 5) and same.tolist() == [True, False] * 4 and pixels.shape == (16, 112, 112, 3)
    features = BlockModel().embed(pixels).features
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (unit[0::2] * unit[1::2]).sum(axis=1)
    assert cosines[same].min() > 0.9 > 0.5 > cosines[~same].max()
    np.testing.assert_array_equal(pixels[0], pixels[2])  # the same probe in both


class FirstChannel(BlockModel):
    """Looks at the first channel only, which is blue for a model that was trained on BGR."""

    color = "rgb"

    def embed(self, images, batch_size=64, progress=None):
        seen = images.copy()
        seen[..., 1:] = 127
        return super().embed(seen)


def test_it_warns_when_the_other_order_is_better(tmp_path):
    images = read_scface(write_scface(tmp_path, subjects=10))
    for number, path in enumerate([*images.gallery, *images.probes]):  # nobody differs from anybody in red
        picture = cv2.imread(str(path))
        noise = np.random.default_rng(number).integers(0, 256, (7, 7), dtype=np.uint8)
        picture[..., 2] = cv2.resize(noise, (112, 112), interpolation=cv2.INTER_NEAREST)
        path.unlink()
        cv2.imwrite(str(path.with_suffix(".png")), picture)
    found = check_color_of_files(FirstChannel(), *near_probes(read_scface(tmp_path)), pairs=40)
    assert found.other_auc > found.auc and "use --color bgr" in found.warning


def test_nothing_to_check(tmp_path):
    few = near_probes(read_scface(write_scface(tmp_path / "few", subjects=9)))
    model = BlockModel()
    assert check_color_of_files(model, *few) is None
    enough = near_probes(read_scface(write_scface(tmp_path / "enough", subjects=10)))
    assert check_color_of_files(model, *enough, pairs=0) is None and model.batches == []
    assert check_color_of_files(model, *enough) is not None
    for path in enough[2]:
        path.write_bytes(b"x")
    assert check_color_of_files(model, *enough) is None

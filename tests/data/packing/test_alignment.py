"""Alignment to the ArcFace template, against insightface's own and against a least-squares solution."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qgface_plugin.data.packing.alignment import TEMPLATE, align, similarity, template
from qgface_plugin.utils.errors import ConfigError, DataError

pytest.importorskip("skimage")


def photo(rng: np.random.Generator, height: int = 90, width: int = 130) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def face_points(rng: np.random.Generator) -> np.ndarray:
    """The template turned, scaled and moved, with the noise of a detector."""
    angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.1, 3.0)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return TEMPLATE @ turn.T + rng.uniform(-40, 120, 2) + rng.normal(0, 2, (5, 2))


@pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [112, 224, 128, 256])
def test_equals_insightface(size: int, dtype: type) -> None:
    face_align = pytest.importorskip("insightface.utils.face_align")
    rng = np.random.default_rng(size)
    for _ in range(20):
        image, points = photo(rng), face_points(rng).astype(dtype)
        aligned = align(image, points, size)
        assert aligned.shape == (size, size, 3) and aligned.dtype == np.uint8
        assert np.array_equal(aligned, face_align.norm_crop(image, points, size))


def least_squares(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity without reflection: unknowns a, b, tx, ty of x' = a x - b y + tx, y' = b x + a y + ty."""
    rows, values = [], []
    for (x, y), (u, v) in zip(points, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows, dtype=np.float64), np.array(values), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_similarity_is_the_least_squares_one(seed: int) -> None:
    points = face_points(np.random.default_rng(seed))
    assert np.allclose(similarity(points), least_squares(points, TEMPLATE.astype(np.float64)), atol=1e-4)


def test_template_stays_where_it_is() -> None:
    assert np.allclose(similarity(TEMPLATE), [[1, 0, 0], [0, 1, 0]], atol=1e-5)
    assert np.allclose(template(224), 2 * TEMPLATE)
    assert np.allclose(template(128), TEMPLATE + [8, 0])


def test_outside_of_the_image_is_black() -> None:
    image = np.full((112, 112, 3), 255, dtype=np.uint8)
    aligned = align(image, TEMPLATE - [50, 0])
    assert (aligned[:, :48] == 0).all() and (aligned[:, 52:] == 255).all()


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.zeros((5, 2)), "all lie at \\[0.0, 0.0\\]"),
        (np.full((5, 2), np.nan), "are not all finite"),
        (np.zeros(10), "of shape \\(10,\\) are not five points"),
        (np.zeros((4, 2)), "of shape \\(4, 2\\) are not five points"),
        (np.array([["a", "b"]] * 5), "are not five points"),
    ],
)
def test_landmarks_that_are_none(landmarks: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        similarity(landmarks)


@pytest.mark.parametrize("size", [0, -112, 100, 120])
def test_impossible_size(size: int) -> None:
    with pytest.raises(ConfigError, match=f"size is {size}"):
        align(np.zeros((9, 9, 3), np.uint8), TEMPLATE, size)


def test_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.transform", None)
    with pytest.raises(ConfigError, match="needs scikit-image.*pip install scikit-image"):
        similarity(TEMPLATE)

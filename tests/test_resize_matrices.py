"""Matrices against OpenCV's own resizing of images."""

from __future__ import annotations

import numpy as np
import pytest

from qgface_plugin.config.degradation import FILTERS
from qgface_plugin.data import degrade as d
from qgface_plugin.data.resize_matrices import enlarge_matrices, shrink_matrices

SIZES = range(11, 57, 15)  # 11, 26, 41, 56


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)


def applied(matrix: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Rows, then columns, in float64."""
    matrix = matrix.astype(np.float64)
    rows = np.tensordot(matrix, image.astype(np.float64), axes=(1, 0))
    return np.clip(np.rint(np.tensordot(rows, matrix, axes=(1, 1)).transpose(0, 2, 1)), 0, 255)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("name", FILTERS)
def test_shrinking(image, name, antialias):
    table = shrink_matrices(112, SIZES, 64, antialias)[FILTERS.index(name)]
    assert table.shape == (len(SIZES), 64, 112) and table.dtype == np.float32
    for size, matrix in zip(SIZES, table, strict=True):
        expected = d.shrink(image, (size, size), name, antialias)
        difference = np.abs(applied(matrix[:size], image) - expected)
        # uint8 rounds after every halving, and OpenCV's weights for uint8 have 11 bits
        assert difference.max() <= (3 if antialias else 1) and difference.mean() < (0.45 if antialias else 0.2)
        assert (matrix[size:] == matrix[size - 1]).all(), "the last row is repeated"
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", FILTERS)
def test_enlarging(image, name):
    table = enlarge_matrices(112, SIZES, 64)[FILTERS.index(name)]
    for size, matrix in zip(SIZES, table, strict=True):
        small = image[:size, :size]
        difference = np.abs(applied(matrix[:, :size], small) - d.enlarge(small, (112, 112), name))
        assert difference.max() <= 1 and difference.mean() < 0.2
        assert not matrix[:, size:].any()


def test_the_whole_size_is_left_as_it_is():
    for table in (shrink_matrices(112, range(112, 113), 112, True), enlarge_matrices(112, range(112, 113), 112)):
        assert (table == np.eye(112)).all()

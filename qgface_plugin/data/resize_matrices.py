"""Resizing as matrices: a filter is linear, so it is known by what OpenCV makes of the unit vectors.

An image X (h, w) becomes A X B^T with A (h', h) and B (w', w) of these tables. So a batch whose images have different
filters and sizes is resized by two products of matrices, with OpenCV's own weights.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..config.degradation import FILTERS
from .degrade import FLAGS


def shrink_matrices(side: int, sizes: range, rows: int, antialias: bool) -> np.ndarray:
    """Every filter's way from `side` pixels to n, as `degrade.shrink` does it: float32 (filters, sizes, rows, side).

    sizes: the n, from 1 to `side`; rows: >= all n. Rows from n on repeat row n - 1, as a JPEG encoder pads an image.
    """
    table = np.empty((len(FILTERS), len(sizes), rows, side), np.float32)
    for code, name in enumerate(FILTERS):
        for place, size in enumerate(sizes):
            matrix = np.eye(side, dtype=np.float32)
            while antialias and name not in ("nearest", "area") and len(matrix) >= 2 * size:
                matrix = cv2.resize(matrix, (side, len(matrix) // 2), interpolation=cv2.INTER_AREA)
            table[code, place, :size] = cv2.resize(matrix, (side, size), interpolation=FLAGS[name])
            table[code, place, size:] = table[code, place, size - 1]
    return table


def enlarge_matrices(side: int, sizes: range, columns: int) -> np.ndarray:
    """Every filter's way from n pixels to `side`: float32 (filters, sizes, side, columns), 0 in columns from n on."""
    table = np.zeros((len(FILTERS), len(sizes), side, columns), np.float32)
    for code, name in enumerate(FILTERS):
        for place, size in enumerate(sizes):
            matrix = np.eye(size, dtype=np.float32)
            table[code, place, :, :size] = cv2.resize(matrix, (size, side), interpolation=FLAGS[name])
    return table

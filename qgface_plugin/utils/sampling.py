"""Samples that are the same every time: places evenly spread over a sequence."""

from __future__ import annotations

import numpy as np


def evenly_spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the places 0 to count - 1, ascending, first and last among them: int64, each once."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)

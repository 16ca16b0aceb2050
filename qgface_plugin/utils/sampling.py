"""Samples that are the same every time: indices evenly spaced over a sequence."""

from __future__ import annotations

import numpy as np


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """At most `most` of the indices 0 to count - 1, ascending, first and last among them: int64, each once."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)

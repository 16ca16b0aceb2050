"""Indices evenly spaced over a sequence."""

from __future__ import annotations

import numpy as np
import pytest

from qgface_plugin.utils.sampling import evenly_spaced


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 359])
def test_each_once_with_both_ends_and_gaps_that_differ_by_one_at_most(count):
    for most in range(2, count + 3):
        indices = evenly_spaced(count, most)
        gaps = np.diff(indices)
        assert len(indices) == min(most, count) and indices[0] == 0 and indices[-1] == count - 1
        assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_few():
    assert evenly_spaced(9, 1).tolist() == [0] and evenly_spaced(0, 5).tolist() == []

"""The ordered map: order, bounded lead, errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from qgface_plugin.utils.parallel import AHEAD, ordered_map


def test_results_in_order() -> None:
    seen = set()

    def square(value: int) -> int:
        seen.add(threading.get_ident())
        return value * value

    assert list(ordered_map(square, range(1000), 3)) == [value * value for value in range(1000)]
    assert threading.get_ident() not in seen and list(ordered_map(square, [], 3)) == []


def test_no_more_than_the_lead_is_begun() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for value in range(10_000):
            taken += 1
            yield value

    results = ordered_map(lambda value: value, items(), 2)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert taken <= 10 + 2 * AHEAD
    results.close()
    assert taken <= 10 + 2 * AHEAD


def test_errors_are_raised_at_their_turn() -> None:
    results = ordered_map(lambda value: 10 // (value - 3), range(100), 2)
    assert [next(results) for _ in range(3)] == [-4, -5, -10]
    with pytest.raises(ZeroDivisionError):
        next(results)

"""A map over many items in threads, in order and with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 32  # results that may wait, per thread


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map(function, items)` by `workers` threads, for functions that read files or decode images.

    Unlike `Executor.map` it begins only `AHEAD * workers` items before their results are asked for, so that millions of
    images neither queue up nor wait in memory.

    Args:
        function: what is done to each item. What it raises is raised here, at its item's turn; items that have not
            begun by then are dropped.
        items: they are drawn by the caller's thread.
        workers: threads.

    Yields:
        The results, in the order of the items.
    """
    rest = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(function, item) for item in islice(rest, AHEAD * workers))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)

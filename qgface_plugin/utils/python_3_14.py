"""Start of data workers, by fork on Linux: Python 3.14 would have a server start them, to which all has to be pickled.

A recipe's own steps and sources may not be picklable, and an index of millions of records would be copied to every
worker, which a fork shares.
"""

from __future__ import annotations

import sys


def start_method(workers: int) -> str | None:
    """For `DataLoader(multiprocessing_context=...)`.

    Args:
        workers: data workers; for 0 of them DataLoader wants None.

    Returns:
        "fork" on Linux; None, Python's default, elsewhere.
    """
    return "fork" if workers > 0 and sys.platform == "linux" else None

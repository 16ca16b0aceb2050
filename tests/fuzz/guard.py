"""What a case may cost and which errors it may end with, measured in the process that runs it.

Memory is held to the size of the input plus ALLOWANCE in three ways: the kernel refuses private memory beyond it
(RLIMIT_DATA), whatever the library makes of that refusal; the pages really touched (peak resident size) may not grow
by more; and no error may stem from a refused allocation.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

from qgface_plugin.utils.errors import CheckpointError, ConfigError, DataError, TrainingError

OWN_ERRORS = (CheckpointError, ConfigError, DataError, TrainingError)
ALLOWANCE = 96 << 20  # bytes: pixels of the largest image allowed, and the decoders' working memory for it
CPU_SECONDS = 5.0  # of one case; usual ones take a millisecond
PAGE = resource.getpagesize()


class Finding(Exception):  # noqa: N818 - it is what a fuzz is for, and no error of the code that raises it
    """A property that does not hold. kind: "exception", "memory", "time", "label", "content" or "crash"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Guard:
    """Runs cases one after another, and keeps the largest figures: bytes touched beyond the start of the case, seconds
    of CPU time."""

    def __init__(self) -> None:
        self.peak, self.slowest = 0, 0.0

    def run(self, size: int, check: Callable[[], Any]) -> tuple[Any, Exception | None]:
        """What `check` returns, or the project's own error that it raised. Raises Finding for anything else."""
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        result: Any = None
        error: Exception | None = None
        resident, began = _start_peak(), time.process_time()
        resource.setrlimit(resource.RLIMIT_DATA, (_statm(5) + size + ALLOWANCE, hard))
        try:
            result = check()
        except Exception as raised:  # every kind is looked at below
            error = raised
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        spent, touched = time.process_time() - began, _peak() - resident
        self.slowest, self.peak = max(self.slowest, spent), max(self.peak, touched)
        if isinstance(error, Finding):
            raise error
        if error is not None and out_of_memory(error):
            raise Finding("memory", f"asked for more than {size} + {ALLOWANCE} bytes: {error!r}") from error
        if error is not None and not isinstance(error, OWN_ERRORS):
            raise Finding("exception", repr(error)[:400]) from error
        if touched > size + ALLOWANCE:
            raise Finding("memory", f"touched {touched} bytes for an input of {size}")
        if spent > CPU_SECONDS:
            raise Finding("time", f"took {spent:.1f} s of CPU time for an input of {size} bytes")
        return result, error


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it stems from, is a refused allocation."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        words = str(error).lower()
        if isinstance(error, MemoryError) or any(word in words for word in ("memory", "alloc", "bad_alloc")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _statm(field: int) -> int:
    """Bytes of this process: resident (1), or private memory that it has reserved, as RLIMIT_DATA counts it (5)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[field]) * PAGE


def _start_peak() -> int:
    """Let the peak of the resident size start anew from the size now, which is returned."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _statm(1)


def _peak() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

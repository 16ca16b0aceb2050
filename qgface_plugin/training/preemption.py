"""Preemption: a run that is sent SIGTERM finishes its step, saves and leaves with exit status 143 (128 + 15)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_STATUS = 128 + signal.SIGTERM


class StopWatch:
    """A note of whether this process has been sent SIGTERM since the watch began.

    Example:
        >>> with watch_for_stop() as stop:
        ...     before = stop.wanted()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     before, stop.wanted()
        (False, True)
    """

    def __init__(self) -> None:
        self._wanted = False

    def wanted(self) -> bool:
        """Whether it has; cheap enough to ask at every step."""
        return self._wanted

    def _notice(self, *_: object) -> None:
        self._wanted = True


@contextmanager
def watch_for_stop() -> Iterator[StopWatch]:
    """Take note of SIGTERM instead of dying of it, until the end of the block.

    A second one changes nothing: torchrun passes on to its ranks what a batch system has sent them already. Outside
    the main thread, where Python handles no signals, nothing is watched.
    """
    watch = StopWatch()
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return
    before = signal.signal(signal.SIGTERM, watch._notice)
    try:
        yield watch
    finally:
        signal.signal(signal.SIGTERM, before)

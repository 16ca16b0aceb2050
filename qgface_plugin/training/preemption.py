"""Preemption: a run that is sent SIGTERM, SIGHUP or Ctrl-C finishes its step, saves and leaves.

Before its first step there is nothing to save, and what is under way (drawing, opening, verifying) may take hours: it
leaves at once. Its exit status is 128 and the signal's number, as a shell has it: 143, 129, 130.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..utils.errors import Stopped

EXIT_STATUS = 128 + signal.SIGTERM
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP", signal.SIGINT: "Ctrl-C"}


class _Left(BaseException):
    """A signal where everything may be left; of a kind that no `except Exception` takes for a problem of its own."""


class StopWatch:
    """A note of whether this process has been asked to leave since the watch began.

    Attributes:
        signal: number of the first signal; None before it.
        leave: what `at_once` raises in the place of a Stopped; for ranks that have to tell each other.

    Example:
        >>> with watch_for_stop() as stop:
        ...     before = stop.wanted()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     before, stop.wanted()
        (False, True)
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.leave: Callable[[Stopped], Exception] = lambda stopped: stopped
        self._pid, self._at_once = os.getpid(), False

    def wanted(self) -> bool:
        """Whether it has; cheap enough to ask at every step."""
        return self.signal is not None

    @contextmanager
    def at_once(self, what: str) -> Iterator[None]:
        """A block that a signal ends wherever it is, because nothing that it does has to be saved.

        Args:
            what: is under way, for the message: "while ...".

        Raises:
            Stopped: there was a signal, in the block or before it.
        """
        try:
            try:
                self._at_once = True
                self._go()
                yield
                self._go()  # something in the block has taken the exception for one of its own
            finally:
                self._at_once = False
        except _Left:
            number = self.signal or signal.SIGTERM
            stopped = Stopped(f"{NAMES[signal.Signals(number)]}: stopped while {what}; nothing was trained", number)
            raise self.leave(stopped) from None

    def _go(self) -> None:
        if self.signal is not None:
            raise _Left

    def _notice(self, number: int, *_: object) -> None:
        if os.getpid() != self._pid:  # a forked child ends when its parent does
            return
        if number == signal.SIGINT and self.signal is not None:
            _die_of(number)
        if self.signal is None:
            self.signal = number
            if self._at_once:
                raise _Left
            if number == signal.SIGINT:
                with suppress(OSError, ValueError, RuntimeError):
                    print("\nCtrl-C: saving after this step; once more ends the run at once", file=sys.stderr)


def _die_of(number: int) -> None:
    """End at once, as the signal does by itself; data workers too, which leave it to this process."""
    for child in multiprocessing.active_children():
        child.kill()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def watch_for_stop() -> Iterator[StopWatch]:
    """Take note of SIGTERM, SIGHUP and Ctrl-C (SIGINT) instead of dying of them, until the end of the block.

    A second Ctrl-C ends the process. A second one of the others changes nothing: torchrun passes on to its ranks what
    a batch system has sent them already. A signal that is ignored stays so (nohup, `&` in a script). Outside the main
    thread, where Python handles no signals, nothing is watched.
    """
    watch = StopWatch()
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return
    before = {number: signal.getsignal(number) for number in NAMES}
    watched = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in watched:
        signal.signal(number, watch._notice)
    try:
        yield watch
    finally:
        for number in watched:
            signal.signal(number, before[number])

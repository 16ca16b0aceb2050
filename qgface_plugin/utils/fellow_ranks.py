"""Fellow ranks: waiting for them without a time limit, and the reason when one of them fails, both without collectives.

A rank that fails leaves its reason in the ranks' store. The others meet a broken connection soon, or do not: they may
be busy, or stand in a collective of a GPU that never ends. So a thread on each rank looks into the store; it says the
reason and ends the process when the main thread has not done so in time. It also ends a rank whose launcher is gone.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from torch.distributed import DistError, Store

from .error_file import note_reason
from .errors import CheckpointError, ConfigError, CutError, DataError, Stopped, TrainingError, is_said, mark_said
from .logs import FILE_ONLY
from .torch_before_2_8 import PrefixStore

LOGGER = logging.getLogger(__name__)
POLL = 0.25  # seconds
ANSWER = 3.0  # seconds in which a living rank answers
GRACE = 12.0  # seconds from a failure to the end of every rank; torchrun kills after 30
OWN = {kind.__name__: kind for kind in (ConfigError, DataError, CutError, CheckpointError, TrainingError)}
UNFIT = (ConfigError, DataError, CheckpointError)  # the input does not fit: exit status 2
BROKEN = ("gloo", "NCCL", "Connection ", "Broken pipe", "Socket", "Timed out", "timed out")


@dataclass(frozen=True)
class Failure:
    """Why a run has ended: the first failure of all its ranks.

    Attributes:
        rank: that failed; -1 for ranks that have ended without a word.
        host: its machine.
        kind: name of the error's class.
        message: of the error.
        status: exit status of a Stopped; 0 of all others.
    """

    rank: int
    host: str
    kind: str
    message: str
    status: int = 0

    @classmethod
    def of(cls, error: BaseException, rank: int) -> Failure:
        """This rank's own."""
        status = error.status if isinstance(error, Stopped) else 0
        return cls(rank, socket.gethostname(), type(error).__name__, words(error), status)

    def as_error(self) -> Exception:
        """What the other ranks raise."""
        if self.kind == Stopped.__name__:
            return Stopped(self.named(), self.status - 128)
        return OWN.get(self.kind, TrainingError)(self.named())

    def named(self) -> str:
        """The message with whom it comes from."""
        return f"rank {self.rank} on {self.host}: {self.message}" if self.rank >= 0 else self.message


def words(error: BaseException) -> str:
    """What an error says to a user; errors that are not the package's own also say what they are."""
    if type(error).__name__ in OWN or isinstance(error, Stopped):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}".rstrip(": ")


class FellowRanks:
    """The ranks of one attempt, as one of them sees them.

    Args:
        store: of this attempt alone.
        rank: this one.
        ranks: how many.

    Attributes:
        doubtful: is there reason to ask, once in a wait, whether the others are alive? A launcher sends SIGTERM when
            one has died.
    """

    def __init__(self, store: PrefixStore, rank: int, ranks: int) -> None:
        self.store, self.rank, self.ranks = store, rank, ranks
        self.doubtful: Callable[[], bool] = lambda: False
        self._waits = 0
        self._guard, self._said = threading.Lock(), False

    def wait(self, *, for_all: bool = True) -> None:
        """Wait, without a time limit, until the ranks are here; called equally often on all of them.

        Args:
            for_all: False waits for rank 0 only.

        Raises:
            ConfigError, DataError, CheckpointError, TrainingError: another rank has failed.
        """
        self._waits += 1
        self.store.set(f"here/{self._waits}/{self.rank}", "")
        others = [f"here/{self._waits}/{rank}" for rank in range(self.ranks if for_all else 1)]
        pause, asked = 0.002, False
        while not self.store.check(others):
            if (failure := self.failure()) is not None:
                raise self.say(failure.as_error())
            if not asked and self.doubtful():
                asked = True
                if (failure := self._ask()) is not None:
                    raise self.say(failure.as_error())
            time.sleep(pause)
            pause = min(2 * pause, POLL)

    def failure(self, store: Store | None = None) -> Failure | None:
        """The first failure, if there is one yet."""
        store = store or self.store
        return Failure(**json.loads(store.get("failure"))) if store.check(["failure"]) else None

    @contextmanager
    def reasons(self) -> Iterator[None]:
        """Tell an error in the block to the other ranks; where it follows from one of theirs, raise that one.

        Either is said at once, in the log and on standard error: the launcher ends the ranks as soon as one has gone.
        """
        try:
            yield
        except BaseException as error:
            left = isinstance(error, (Stopped, GeneratorExit)) or isinstance(error, SystemExit) and not error.code
            if left or is_said(error):
                raise
            try:
                cause = self._cause(error)
            except DistError:  # nobody can say more
                if not _is_broken_connection(error):
                    self.say(error)
                    raise error from None
                gone = "the ranks' store is gone: torchrun, or the machine of rank 0, has ended"
                raise self.say(TrainingError(gone)) from error
            if cause is not None:
                raise self.say(cause.as_error()) from error
            self.say(error)
            raise

    def leave(self, stopped: Stopped) -> Exception:
        """What this rank raises that has been asked to leave without the others' knowledge: they are told.

        A launcher also asks for it when another rank has failed or died; then that is why the run ends.
        """
        try:
            found = self.failure() or self._ask() or self._tell(Failure.of(stopped, self.rank))
        except DistError:  # torchrun has gone before
            return stopped
        if found.kind == Stopped.__name__:
            return stopped
        error = found.as_error()
        self.say(error)
        return error

    def say(self, error: BaseException) -> BaseException:
        """Say once in this process why the run ends, in the log and on standard error; the error, marked as said."""
        with self._guard:
            said, self._said = self._said, True
        if not said:
            say(words(error))
        return mark_said(error)

    def _cause(self, error: BaseException) -> Failure | None:
        """The failure of another rank that `error` follows from; None for an own one, which is then told to them."""
        if _is_broken_connection(error):
            found = self._ask() or self._tell_of_all(
                "the connection between the ranks broke, or one of them did not come; all of them are alive"
            )
            return None if found.rank == self.rank else found
        own = type(error).__name__ in OWN or not isinstance(error, RuntimeError)
        before = self.failure()
        if before is not None and before.rank != self.rank and not own:
            return before
        self._tell(Failure.of(error, self.rank))
        return None

    def _tell(self, failure: Failure) -> Failure:
        """The first failure, which is this one if there was none."""
        spelled = json.dumps(asdict(failure))
        self.store.compare_set("failure", "", spelled)
        return Failure(**json.loads(self.store.get("failure")))

    def _ask(self) -> Failure | None:
        """What has happened on another rank: what it says, or that it says nothing any more; None: all are alive."""
        self.store.set("anyone", "")
        until = time.monotonic() + ANSWER
        others = [rank for rank in range(self.ranks) if rank != self.rank]
        while time.monotonic() < until:
            if (failure := self.failure()) is not None:
                return failure
            time.sleep(0.05)
        silent = [rank for rank in others if not self.store.check([f"alive/{rank}"])]
        if not silent:
            return None
        return self._tell_of_all(
            f"rank(s) {', '.join(map(str, silent))} of {self.ranks} ended without giving a reason: killed, by the "
            "system when memory ran out or by a signal, or the machine is gone. Look at their standard error and at "
            "torchrun's report"
        )

    def _tell_of_all(self, message: str) -> Failure:
        return self._tell(Failure(-1, socket.gethostname(), "TrainingError", message))

    def part(self) -> None:
        """Say goodbye: the store may end with this process, so it waits for the others to have heard what there is.

        After a failure that is its reason; else rank 0 waits until the others have no more to ask.
        """
        until = time.monotonic() + ANSWER
        with suppress(DistError):
            self.store.set(f"parted/{self.rank}", "")
            others = [rank for rank in range(self.ranks) if rank != self.rank]
            while time.monotonic() < until:
                failed = self.store.check(["failure"])
                if not failed and self.rank != 0:
                    return
                if all(self.store.check([f"{'heard' if failed else 'parted'}/{other}"]) for other in others):
                    return
                time.sleep(0.05)


def say(reason: str) -> None:
    """Write why the run ends into the log, on standard error, and into torchrun's report."""
    note_reason(reason)
    if LOGGER.hasHandlers():  # Python would print it by itself on ranks that have no log
        LOGGER.error("training stopped: %s", reason, extra={FILE_ONLY: True})
    with suppress(Exception):
        print(f"{Path(sys.argv[0]).name}: {reason}", file=sys.stderr, flush=True)


def _is_broken_connection(error: BaseException) -> bool:
    if isinstance(error, DistError):
        return True
    return type(error) is RuntimeError and any(text in str(error) for text in BROKEN)


class Watch:
    """A thread that looks after this rank: has another one failed, is the launcher gone?

    Args:
        fellows: None for a single rank.
        launcher: process id of the launcher, which this process must not outlive; None for none.
    """

    def __init__(self, fellows: FellowRanks | None, launcher: int | None) -> None:
        self.fellows, self.launcher = fellows, launcher
        self._store = None if fellows is None else fellows.store.clone()
        self._done = threading.Event()
        self._ends: float | None = None
        self._thread = threading.Thread(target=self._run, name="fellow ranks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join(ANSWER)

    def _run(self) -> None:
        while not self._done.wait(POLL):
            if self.launcher is not None and os.getppid() != self.launcher:
                say("torchrun is gone, so this rank ends; config.resume = True goes on from the last checkpoint")
                _end(1)
            if self._store is not None:
                try:
                    self._look(self._store)
                except DistError:
                    self._store = None  # the store has ended with the rank or the launcher that had it

    def _look(self, store: Store) -> None:
        assert self.fellows is not None
        if store.check(["anyone"]):
            store.set(f"alive/{self.fellows.rank}", "")
        failure = self.fellows.failure(store)
        if failure is None:
            return
        error = failure.as_error()
        if self._ends is None:
            if failure.rank != self.fellows.rank:
                self.fellows.say(error)
            store.set(f"heard/{self.fellows.rank}", "")
            self._ends = time.monotonic() + GRACE
        if time.monotonic() > self._ends:
            _end(failure.status or (2 if isinstance(error, UNFIT) else 1))


@contextmanager
def explained_end(fellows: FellowRanks) -> Iterator[None]:
    """SIGTERM still ends the process in the block, but it first says which rank's end is the reason, if one is.

    A launcher sends it to the ranks that are left when one has died. They may stand in a collective, where no handler
    of Python's runs: so a thread waits for what the interpreter writes when the signal comes.

    Args:
        fellows: the ranks; nothing happens where SIGTERM is handled already, also by what the block itself sets up for
            a while, or outside the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    asking = FellowRanks(fellows.store.clone(), fellows.rank, fellows.ranks)
    end, written = os.pipe()
    os.set_blocking(written, False)

    def nothing(*_: object) -> None:
        """The thread does it."""

    def wait() -> None:
        while read := os.read(end, 1):
            if read[0] != signal.SIGTERM or signal.getsignal(signal.SIGTERM) is not nothing:
                continue
            failure = None
            with suppress(DistError):
                failure = asking.failure() or asking._ask()
            if failure is None:
                _end(128 + signal.SIGTERM)
            elif failure.rank != fellows.rank:  # after its own one the main thread is leaving
                fellows.say(failure.as_error())
                _end(failure.status or (2 if isinstance(failure.as_error(), UNFIT) else 1))

    thread = threading.Thread(target=wait, name="SIGTERM", daemon=True)
    before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, nothing)
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(written)  # which ends the thread
        thread.join()
        os.close(end)


def _end(status: int) -> None:
    """End this process at once."""
    for handler in logging.getLogger("qgface_plugin").handlers:
        with suppress(Exception):
            handler.flush()
    for child in multiprocessing.active_children():
        with suppress(Exception):
            child.kill()
    os._exit(status)

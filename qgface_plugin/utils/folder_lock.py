"""Lock of a folder: one owner at a time, who can be named to everyone else, and whose death frees it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from .errors import ConfigError, DataError
from .text import parse_json

LOGGER = logging.getLogger(__name__)
PATIENCE = 2.0  # seconds that a process may take to die
BEAT = 15.0  # seconds from one sign of life to the next, for other machines
SILENCE = 60.0  # seconds without one after which an owner on another machine is taken for dead
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what file systems without flock say


class BusyError(ConfigError):
    """Another process works in the folder; the message says which, on what machine, and since when."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, as its file says.

    Attributes:
        host: name of the machine.
        pid: of the process.
        started: when the process started, in the kernel's ticks: a process id is used again, this is not.
        since: when it took the lock.
        boot: of the machine's kernel; containers on one machine share it.
        launch: TORCHELASTIC_RUN_ID, the same after torchrun has started the ranks again.
    """

    host: str
    pid: int
    started: int
    since: str
    boot: str
    launch: str = ""

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        launch, now = os.environ.get("TORCHELASTIC_RUN_ID", ""), datetime.now(timezone.utc)
        since = now.astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), since, _boot(), launch)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class FolderLock:
    """The right to work in a folder, for the block.

    The kernel holds the lock (`flock`) and frees it when its holder dies in whatever way; the file says who holds it.
    Where a file system has no such locks, or another machine may not see them, what the file says counts: the process
    is looked for on this machine, and on another one its sign of life. Forked children (data workers) do not hold the
    lock; those that get `fileno()` do, so that it outlives a killed parent as long as they live.

    Args:
        folder: made where there is none; removed again at the end when nothing is in it.
        name: of the file in it, which is there as long as the lock is held.
        wait: until the folder is free, instead of raising.

    Raises:
        BusyError: another process holds it.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with FolderLock(folder):
        ...     try:
        ...         FolderLock(folder, patience=0.0).acquire()
        ...     except BusyError as error:
        ...         print(f"process {os.getpid()} on" in str(error))
        True
        >>> os.listdir(folder)
        []
    """

    def __init__(
        self, folder: str | Path, name: str = ".lock", *, wait: bool = False, patience: float = PATIENCE
    ) -> None:
        self.folder, self.path, self.wait, self.patience = Path(folder), Path(folder) / name, wait, patience
        self._file: int | None = None
        self._pid = 0
        self._made: list[Path] = []
        self._released = threading.Event()

    def __enter__(self) -> FolderLock:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def close(self) -> None:
        """As `release`."""
        self.release()

    def fileno(self) -> int:
        """The open file, for children that are to hold the lock too."""
        assert self._file is not None, "the lock is not held"
        return self._file

    def acquire(self) -> FolderLock:
        """Take the lock; see the class."""
        self._make_folder()
        until, told = time.monotonic() + self.patience, False
        while (owner := self._try()) is not None:
            if not self.wait and time.monotonic() >= until:
                self._remove_folders()
                raise BusyError(f"{self.folder}: {_at_work(owner)}; start again when that has ended")
            if self.wait and not told:
                LOGGER.info("%s: %s; waiting for it", self.folder, _at_work(owner))
                told = True
            time.sleep(0.1)
        self._pid = os.getpid()
        _HELD.add(self)
        threading.Thread(target=self._beat, name="folder lock", daemon=True).start()
        return self

    def release(self) -> None:
        """Give the folder free; nothing happens in a forked child, or when it is free already."""
        if self._file is None or self._pid != os.getpid():
            return
        self._released.set()
        _HELD.discard(self)
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._file), os.stat(self.path)):
                self.path.unlink()
        os.close(self._file)
        self._file = None
        self._remove_folders()

    def _try(self) -> Owner | str | None:
        """Take the lock and return None, or the one who has it: what the file says."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                owner = self._who(file)
                if owner is None and not os.path.samestat(os.fstat(file), os.stat(self.path)):
                    raise FileNotFoundError  # its holder has just removed it
            except FileNotFoundError:
                os.close(file)
                continue
            except BaseException:
                os.close(file)
                raise
            if owner is not None:
                os.close(file)
            else:
                self._file = file
            return owner

    def _who(self, file: int) -> Owner | str | None:
        locks = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file) or "another process"
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            locks = False
        before, me = _read(file), Owner.me()
        if before is not None and _alive(before, me, locks, time.time() - os.fstat(file).st_mtime):
            return before
        if before is not None:
            LOGGER.warning("%s was left by %s, which is gone; it is taken over", self.path, before)
        os.ftruncate(file, 0)
        os.pwrite(file, (json.dumps(asdict(me)) + "\n").encode(), 0)
        if not locks:  # two that start at once: the one who has written last has it
            time.sleep(0.2)
            return None if _read(file) == me else _read(file)
        return None

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with suppress(OSError):
                if (file := self._file) is not None:  # released in the meantime
                    os.utime(file)

    def _make_folder(self) -> None:
        folder, absent = self.folder, []
        while not folder.exists() and folder != folder.parent:
            absent.append(folder)
            folder = folder.parent
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = absent

    def _remove_folders(self) -> None:
        with suppress(OSError):  # something is in it
            for folder in self._made:
                folder.rmdir()


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _let_go() -> None:
    """In a forked child: its parent's locks are not its own, and must not outlive the parent."""
    for lock in list(_HELD):
        if lock._file is not None:
            os.close(lock._file)
            lock._file = None


os.register_at_fork(after_in_child=_let_go)


def _at_work(owner: Owner | str) -> str:
    if isinstance(owner, str):
        return f"{owner} is at work on it"
    return f"process {owner.pid} on {owner.host} has been at work on it since {owner.since}"


def _read(file: int) -> Owner | None:
    try:
        said = parse_json(os.pread(file, 4096, 0).decode("utf-8", "replace"), "lock")
        owner = Owner(**said)
    except (DataError, TypeError):
        return None
    numbers, texts = (owner.pid, owner.started), (owner.host, owner.since, owner.boot, owner.launch)
    return owner if {type(n) for n in numbers} == {int} and {type(text) for text in texts} == {str} else None


def _alive(owner: Owner, me: Owner, locks: bool, silence: float) -> bool:
    """Whether an owner whose lock this process could take, or could not ask for, may still be at work."""
    here = owner.host == me.host or owner.boot == me.boot
    if owner.launch and owner.launch == me.launch != "none":  # torchrun has started its ranks again, maybe elsewhere
        return False
    if here and locks:
        return False
    if here:
        return owner.boot == me.boot and _started(owner.pid) == owner.started != 0
    return silence < SILENCE


def _started(pid: int) -> int:
    """When a process started, in ticks since the kernel did; 0 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""

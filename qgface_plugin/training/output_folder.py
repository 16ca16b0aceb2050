"""Output folder of a run: one owner, who can write what he has to, found out before any file is touched."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..utils import distributed
from ..utils.errors import ConfigError
from ..utils.folder_lock import BusyError, FolderLock

LOGGER = logging.getLogger(__name__)
LOCK = "run.lock"
APPENDED = ("training.log", "metrics.jsonl")
REPLACED = ("metrics.jsonl", "recipe.json", "run.json", "model.pt", "checkpoint_gpu_*.pt")


@contextmanager
def own_folder(folder: str | Path) -> Iterator[None]:
    """The right to write into the folder, for the block; rank 0 holds the lock for all ranks.

    Raises:
        ConfigError: on all ranks: another run is at work in it, or it cannot be written; names `config.output`.
    """
    lock = FolderLock(folder, LOCK)

    def own() -> None:
        try:
            lock.acquire()
            check_writable(Path(folder))
        except BusyError as error:
            raise ConfigError(f"config.output: {error}, or name another folder") from error
        except OSError as error:
            where = error.filename or folder
            raise ConfigError(
                f"config.output is {folder}, which cannot be written ({where}: {error.strerror}): name a folder that "
                "is yours, or have its rights changed"
            ) from error

    try:
        distributed.on_rank_zero(own)
        yield
    finally:
        lock.release()


def check_writable(folder: Path) -> None:
    """Try, without changing any content, what a run does to the files that are in its folder already.

    Raises:
        OSError: naming the file.
    """
    for name in APPENDED:
        if os.path.lexists(folder / name):
            open(folder / name, "ab").close()
    if folder.stat().st_mode & stat.S_ISVTX:  # who may not set a file's times may not replace it there either
        for path in (path for pattern in REPLACED for path in folder.glob(pattern)):
            before = path.lstat()
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
    events = folder / "tensorboard"
    if events.is_dir() and not os.access(events, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(13, os.strerror(13), str(events))


def warn_if_nearly_full(folder: Path, checkpoint: int) -> None:
    """Say in the log when fewer than two checkpoints fit on the folder's disk.

    Args:
        folder: of the run.
        checkpoint: bytes that one set of checkpoints takes, with model.pt.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    if free < 2 * checkpoint:
        LOGGER.warning(
            "%s has %.1f GB of free space, and a checkpoint takes about %.1f GB: two must fit, the old one and the new",
            folder, free / 1e9, checkpoint / 1e9,
        )  # fmt: skip

"""Logs of a run: the package's lines on the console and in a file, before and after the file is known."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

from tqdm import tqdm

from .files import shown

FORMAT = "Training: %(asctime)s-%(message)s"  # arcface_torch's, so that what reads its logs reads ours
PACKAGE = "qgface_plugin"
FILE_ONLY = "file_only"  # in `extra`: the console gets to know it in another way


class _Formatter(logging.Formatter):
    """arcface_torch's line; a warning says that it is one, else nobody finds it among the steps."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno == logging.WARNING:
            record = copy(record)
            record.message = f"{record.levelname}: {record.message}"
        return super().formatMessage(record)


class EarlyLog(logging.Handler):
    """The package's log before a trainer has set up its own: printed at once, handed to the trainer's file later.

    Lines from INFO on, on rank 0 only. It listens from the moment it is made until `stop`.

    Example:
        >>> log = EarlyLog()
        >>> logging.getLogger(PACKAGE).info("a line")  # doctest: +ELLIPSIS
        Training: ...-a line
        >>> len(log.records)
        1
        >>> log.stop()
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter(FORMAT))
        self.records: list[logging.LogRecord] = []
        logger = logging.getLogger(PACKAGE)
        self._level = logger.level
        logger.setLevel(logging.INFO)
        if int(os.environ.get("RANK", "0")) == 0:
            logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        print(shown(self.format(record)), flush=True)

    def hand_over(self, *files: logging.Handler) -> None:
        """Others record from here on; their files get the lines so far, which the console has seen.

        Args:
            files: the handlers of those files; none: those of the root logger, as a checkout sets it up.
        """
        logging.getLogger(PACKAGE).removeHandler(self)
        found = files or [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
        for handler in found:
            stream = getattr(handler, "stream", None)
            if isinstance(stream, io.TextIOWrapper):  # a checkout opens its log without a thought of odd names
                stream.reconfigure(errors="backslashreplace")
            for record in self.records:
                handler.handle(record)
        self.records = []

    def stop(self) -> None:
        """The package's logger is as it was."""
        logger = logging.getLogger(PACKAGE)
        logger.removeHandler(self)
        logger.setLevel(self._level)


@contextmanager
def logging_to(path: Path, early: EarlyLog | None = None) -> Iterator[None]:
    """Append the package's log, from INFO on, to `path` and print it, until the end of the block.

    Args:
        path: the file.
        early: what has listened so far; its lines come first in the file, and it listens no more.
    """
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    file, console = _File(path, encoding="utf-8", errors="backslashreplace"), _Console()
    logger.setLevel(logging.INFO)
    for handler in (file, console):
        handler.setFormatter(_Formatter(FORMAT))
        logger.addHandler(handler)
    if early is not None:
        early.hand_over(file)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in (file, console):
            logger.removeHandler(handler)
            handler.close()


class _File(logging.FileHandler):
    """The file; when it cannot be written (a full disk), that is one line on standard error and no end of a run."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._failed:
            self._failed = True
            print(f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}", file=sys.stderr)


class _Console(logging.Handler):
    """Standard output, without tearing the progress bar; not what the program says on standard error itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, FILE_ONLY, False):
            tqdm.write(shown(self.format(record)), file=sys.stdout)
            sys.stdout.flush()  # in a file, too, a line is there at once and before what standard error says next


@contextmanager
def early_log() -> Iterator[EarlyLog]:
    """An EarlyLog for the block."""
    log = EarlyLog()
    try:
        yield log
    finally:
        log.stop()

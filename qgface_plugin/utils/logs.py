"""Logs of a run: the package's lines on the console and in a file, before and after the file is known."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

FORMAT = "Training: %(asctime)s-%(message)s"  # arcface_torch's, so that what reads its logs reads ours
PACKAGE = "qgface_plugin"


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append the package's log, from INFO on, to `path` and print it, until the end of the block."""
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    handlers = [logging.FileHandler(path, encoding="utf-8"), _Console()]
    logger.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _Console(logging.Handler):
    """Standard output, without tearing the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)


class EarlyLog(logging.Handler):
    """The package's log before a checkout has set up its own: printed at once, handed to the checkout's file later.

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
        self.setFormatter(logging.Formatter(FORMAT))
        self.records: list[logging.LogRecord] = []
        logger = logging.getLogger(PACKAGE)
        self._level = logger.level
        logger.setLevel(logging.INFO)
        if int(os.environ.get("RANK", "0")) == 0:
            logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        print(self.format(record), flush=True)

    def hand_over(self) -> None:
        """The root logger records from here on; its files get the lines so far, which the console has seen."""
        logging.getLogger(PACKAGE).removeHandler(self)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                for record in self.records:
                    handler.handle(record)
        self.records = []

    def stop(self) -> None:
        """The package's logger is as it was."""
        logger = logging.getLogger(PACKAGE)
        logger.removeHandler(self)
        logger.setLevel(self._level)


@contextmanager
def early_log() -> Iterator[EarlyLog]:
    """An EarlyLog for the block."""
    log = EarlyLog()
    try:
        yield log
    finally:
        log.stop()

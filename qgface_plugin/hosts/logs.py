"""Where the package's log goes while a run records: its file and the console."""

from __future__ import annotations

import logging
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

"""Images that are no files of their own: stretches of a file, read by threads, each at its turn."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Protocol

from ...utils.errors import DataError

MAX_BYTES = 1 << 29  # of an image


class ImageStore(Protocol):
    """What a face is read from that is no file of its own."""

    def read(self, at: tuple[int, int]) -> bytes:
        """The encoded image at a place that the store knows.

        Raises:
            DataError: it is not there any more.
        """


class StoredImages:
    """Images within one file.

    A file that becomes shorter is an error here; through a memory map it would end the process.

    Args:
        path: the file.
        file: it, open, where it has no name.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: str | Path, file: IO[bytes] | None = None) -> None:
        self.path = Path(path)
        try:
            self._file = open(path, "rb") if file is None else file  # noqa: SIM115 - open as long as its faces are
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise DataError(f"{path}: the file cannot be read ({error.strerror})") from error

    def read(self, at: tuple[int, int]) -> bytes:
        """The bytes from an offset on, as many as are asked for.

        Raises:
            DataError: too many, or the file has become shorter, or cannot be read.
        """
        offset, size = at
        if size > MAX_BYTES:
            raise DataError(f"{self.path}: {size} bytes at offset {offset} are no image")
        try:
            found = os.pread(self._file.fileno(), size, offset)
            while len(found) < size and (more := os.pread(self._file.fileno(), size - len(found), offset + len(found))):
                found += more
        except OSError as error:
            raise DataError(f"{self.path}: offset {offset} cannot be read ({error.strerror})") from error
        if len(found) < size:
            raise DataError(f"{self.path}: the file ends within the {size} bytes at offset {offset}: it is cut short")
        return found


class Spool(StoredImages):
    """Images of a compressed file, in a file without a name, which goes with this process.

    Args:
        path: the compressed file, for messages.
        folder: where there is room for all of its images.
    """

    def __init__(self, path: str | Path, folder: str | Path) -> None:
        super().__init__(path, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        self._end = 0

    def keep(self, encoded: bytes) -> tuple[int, int]:
        """Append an image; its place."""
        self._file.write(encoded)
        self._file.flush()
        at, self._end = (self._end, len(encoded)), self._end + len(encoded)
        return at

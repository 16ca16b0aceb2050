"""Reader of MXNet's RecordIO through a memory map."""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import CutError, DataError
from .format import FIRST, LAST, MAGIC, MAGIC_BYTES, MAX_LENGTH, MIDDLE, PART, WHOLE
from .index_cache import open_index

LARGE = 1 << 30  # bytes; a smaller file may as well stay in memory

LOGGER = logging.getLogger(__name__)


class RecordReader:
    """Random access to the records of one file.

    Holds no position, so threads and forked processes may share it; pickling it reopens the file. Payloads are read
    straight from the map, which stays open as long as a payload is in use. A long index is opened from its copy, see
    `index_cache`.

    Args:
        path: the `.rec` file.
        idx_path: its index. Without it, the `.idx` beside the file; where that is missing the index is rebuilt by
            scanning (keys 0, 1, ... in the order of the records), kept in memory and announced in the log.

    Attributes:
        keys: int64 (n,), ascending.
        offsets: int64 (n,), where each key's record begins.

    Raises:
        DataError: the file is missing or empty, or the index is not valid.

    Example:
        >>> import tempfile
        >>> from qgface_plugin.data.recordio import RecordWriter
        >>> path = Path(tempfile.mkdtemp()) / "train.rec"
        >>> with RecordWriter(path) as writer:
        ...     writer.write(7, b"payload")
        >>> reader = RecordReader(path)
        >>> bytes(reader.read(7)), reader.offset(7)
        (b'payload', 0)
    """

    def __init__(self, path: str | Path, idx_path: str | Path | None = None) -> None:
        self.path = Path(path)
        self._map_file()
        sibling = self.path.with_suffix(".idx")
        if idx_path is not None or sibling.exists():
            self.idx_path = sibling if idx_path is None else Path(idx_path)
            self.keys, self.offsets = open_index(self.idx_path, self.path)
        else:
            self.offsets = self._scan()
            self.keys = np.arange(len(self.offsets), dtype=np.int64)
            LOGGER.warning("%s is missing: index of %d records rebuilt by scanning", sibling, len(self.keys))
        self._dense = int(self.keys[-1]) == len(self.keys) - 1

    def __len__(self) -> int:
        return len(self.keys)

    def offset(self, key: int) -> int:
        """The byte at which a key's record begins.

        Raises:
            DataError: a key that is not in the index.
        """
        row = self._row(key)
        if row is None:
            raise DataError(f"{self.path}: no key {key}; its {len(self)} keys are {self.keys[0]} to {self.keys[-1]}")
        return int(self.offsets[row])

    def _row(self, key: int) -> int | None:
        row = key if self._dense else int(np.searchsorted(self.keys, key))
        return row if 0 <= row < len(self.keys) and self.keys[row] == key else None

    def has(self, key: int) -> bool:
        """Whether a key is in the index."""
        return self._row(key) is not None

    def where(self, key: int) -> str:
        """How messages name a record: file, key and offset."""
        return f"{self.path} key {key} at offset {self.offset(key)}"

    def read(self, key: int) -> memoryview:
        """The payload of a key's record, read-only; a view of the file unless the record has several parts.

        Raises:
            DataError: an unknown key, or a record that is cut short or damaged; names file, key and offset. Also a
                file that has become shorter, see `check_size`.
        """
        self.check_size()
        offset = self.offset(key)
        try:
            end, following, several = self._span(offset)
            self._check_neighbour(following)
            return self._join(offset, end) if several else self._view[offset + PART.size : end]
        except DataError as error:
            raise DataError(f"{self.where(key)}: {error}") from None

    def check_size(self) -> None:
        """Refuse a file that has become shorter since it was opened, before a page that is gone is touched.

        The system ends a process that does (SIGBUS). A file that was replaced stays whole here as long as it is open.

        Raises:
            CutError: names the file, its size now, and the size that the index was made for.
        """
        mapped: Any = self._view.obj
        now = mapped.size()  # of the file, not of the map
        if now < self.size:
            raise CutError(
                f"{self.path}: the file has {now} bytes now, and {self.size} when it was opened, as its index needs: "
                "something has cut it while it was in use. Put the whole file back and start again"
            )

    @property
    def words(self) -> np.ndarray:
        """The file as little-endian uint32 (size // 4,), a view: for whole-array looks at many records."""
        self.check_size()
        return np.frombuffer(self._view, dtype="<u4", count=self.size // 4)

    def _map_file(self) -> None:
        try:
            with open(self.path, "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                if self.size == 0:
                    raise DataError(f"{self.path}: the file is empty")
                self._view = memoryview(mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ))
        except OSError as error:
            raise DataError(f"{self.path}: the record file cannot be read ({error.strerror})") from error

    def release(self) -> None:
        """Let the pages of a large file that have been looked at go from this process; they stay in the system's."""
        mapped: Any = self._view.obj
        if self.size > LARGE and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def __getstate__(self) -> dict:
        left = {"_view"} | (set() if self.keys.flags.writeable else {"keys", "offsets"})  # a map is opened again
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._map_file()
        if self.size != state["size"]:
            raise DataError(f"{self.path}: the file had {state['size']} bytes when opened and now has {self.size}")
        if "keys" not in state:
            self.keys, self.offsets = open_index(self.idx_path, self.path)

    def _part(self, offset: int) -> tuple[int, int, int]:
        """Kind of the part at an offset, end of its payload, end of its padding."""
        if offset + PART.size > self.size:
            raise DataError(f"offset {offset} is past the last possible record of a file of {self.size} bytes")
        magic, word = PART.unpack_from(self._view, offset)
        if magic != MAGIC:
            raise DataError(f"no record begins at offset {offset}: found 0x{magic:08x} instead of 0x{MAGIC:08x}")
        end = offset + PART.size + (word & MAX_LENGTH)
        padded = (end + 3) & ~3
        if padded > self.size:
            raise DataError(f"the record at offset {offset} ends at {padded}, past the file's {self.size} bytes")
        return word >> 29, end, padded

    def _span(self, offset: int) -> tuple[int, int, bool]:
        """Where the record at an offset ends without and with its padding, and whether it has several parts."""
        kind, end, following = self._part(offset)
        if kind not in (WHOLE, FIRST):
            raise DataError(f"no record begins at offset {offset}: continuation flag {kind} is neither 0 nor 1")
        several = kind == FIRST
        while kind in (FIRST, MIDDLE):
            if end != following:
                raise DataError(f"a part that is not the record's last ends at {end}, not at a multiple of 4")
            if following == self.size:
                raise DataError("the file ends before the last part of a record of several parts")
            part_offset = following
            kind, end, following = self._part(part_offset)
            if kind not in (MIDDLE, LAST):
                raise DataError(f"a new record begins at offset {part_offset}, before the last part of this one")
        return end, following, several

    def _check_neighbour(self, offset: int) -> None:
        """A damaged length is told by what follows: a record must begin there, or the file end."""
        head = bytes(self._view[offset : offset + PART.size])
        cut_short = len(head) < PART.size and MAGIC_BYTES.startswith(head[:4])
        if cut_short or head[:4] == MAGIC_BYTES and head[7] >> 5 in (WHOLE, FIRST):
            return
        if not np.any(self.offsets == offset):
            raise DataError(f"no record begins at offset {offset}, where this one ends: its length is damaged")

    def _join(self, offset: int, end: int) -> memoryview:
        """The payload of a record of several parts, the magic put back between them."""
        payload = bytearray(end - offset)
        filled = 0
        while True:
            kind, stop, following = self._part(offset)
            start = offset + PART.size
            payload[filled : filled + stop - start] = self._view[start:stop]
            filled += stop - start
            if kind == LAST:
                del payload[filled:]
                return memoryview(payload).toreadonly()
            payload[filled : filled + 4] = MAGIC_BYTES
            filled += 4
            offset = following

    def _scan(self) -> np.ndarray:
        """Offsets of all records, in the order of the file."""
        offset, offsets = 0, list[int]()
        while offset < self.size:
            try:
                _, following, _ = self._span(offset)
            except DataError as error:
                problem = f"the index is missing and rebuilding it failed at record {len(offsets)}"
                raise DataError(f"{self.path}: {problem}: {error}") from None
            offsets.append(offset)
            offset = following
        return np.array(offsets, dtype=np.int64)

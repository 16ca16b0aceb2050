"""Index cache: the index of a large RecordIO file as numbers in a file beside the `.idx`, so that it opens at once.

The file is only ever a copy of what the `.idx` says. It is used while size and time of last change of both `.rec` and
`.idx` are those that it was made from and its own CRC holds, made again otherwise, and left out where the folder cannot
be written to; deleting it does no harm.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ...utils.files import atomic_write
from .index import read_index

SUFFIX = ".cache"  # after the name of the index
CACHED_FROM = 100_000  # records; a shorter index is parsed in a few hundredths of a second
HEADER = struct.Struct("<8s5q")  # mark, size and time of .rec and .idx, records
MARK = b"QGFidx\x00\x01"
CHUNK = 1 << 20

LOGGER = logging.getLogger(__name__)


def open_index(idx_path: Path, rec_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What `read_index` returns for `idx_path`, from the copy beside it where that is valid: then read-only arrays
    over a memory map, of which only the pages that are looked at are held.

    Raises:
        DataError: as `read_index` does.
    """
    made_from = _stamp(rec_path, idx_path)
    copy = idx_path.with_name(idx_path.name + SUFFIX)
    found = _load(copy, made_from)
    if found is not None:
        return found
    keys, offsets = read_index(idx_path)
    if len(keys) < CACHED_FROM or made_from is None or made_from != _stamp(rec_path, idx_path):
        return keys, offsets
    try:
        _store(copy, made_from, keys, offsets)
    except OSError as error:
        LOGGER.info("%s is not written (%s): the index will be parsed again next time", copy, error.strerror)
        return keys, offsets
    LOGGER.info("%s: a copy of the index that opens at once; it may be deleted", copy)
    return _load(copy, made_from) or (keys, offsets)


def _stamp(*paths: Path) -> tuple[int, ...] | None:
    """Size and time of last change of each file, or None when one is not there."""
    try:
        return tuple(number for path in paths for number in (path.stat().st_size, path.stat().st_mtime_ns))
    except OSError:
        return None


def _load(copy: Path, made_from: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Keys and offsets, or None where there is no copy, or one of other files, or a damaged one."""
    try:
        with open(copy, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEADER.size)
            if made_from is None or len(head) < HEADER.size:
                return None
            mark, *stamp, count = HEADER.unpack(head)
            whole = size == HEADER.size + 16 * count + 4
            if mark != MARK or tuple(stamp) != made_from or count < 1 or not whole:
                return None
            crc, left = zlib.crc32(head), 16 * count
            while left and (chunk := file.read(min(CHUNK, left))):
                crc, left = zlib.crc32(chunk, crc), left - len(chunk)
            if file.read() != struct.pack("<I", crc):
                LOGGER.warning("%s is damaged; the index is parsed again", copy)
                return None
            view = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError:
        return None
    keys = np.frombuffer(view, dtype="<i8", count=count, offset=HEADER.size)
    return keys, np.frombuffer(view, dtype="<i8", count=count, offset=HEADER.size + 8 * count)


def _store(copy: Path, made_from: tuple[int, ...], keys: np.ndarray, offsets: np.ndarray) -> None:
    """Write the copy; it has its name only when it is complete, also where several ranks write it at once."""
    with atomic_write(copy) as file:
        crc = _write(file, HEADER.pack(MARK, *made_from, len(keys)), 0)
        for numbers in (keys, offsets):
            for start in range(0, len(numbers), CHUNK // 8):
                crc = _write(file, numbers[start : start + CHUNK // 8].astype("<i8").tobytes(), crc)
        file.write(struct.pack("<I", crc))


def _write(file: IO[bytes], data: bytes, crc: int) -> int:
    file.write(data)
    return zlib.crc32(data, crc)

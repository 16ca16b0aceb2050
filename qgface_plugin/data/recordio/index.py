"""Index of a RecordIO file, MXNet's `.idx`: text, one line per record, `key TAB offset`, lines in any order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ...utils.errors import DataError
from ...utils.text import MAX_DIGITS, line_blocks, regular_table

BLOCK = 1 << 20  # bytes of text at a time, so that only the numbers of a long index are held


def read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an index.

    Returns:
        keys: int64 (n,), ascending.
        offsets: int64 (n,), the byte at which each key's record begins, a multiple of 4.

    Raises:
        DataError: no line, a malformed line, a negative or unaligned offset, or a key given twice; names file and line.
    """
    try:
        keys, offsets = _parse(path)
    except OSError as error:
        raise DataError(f"{path}: the index cannot be read ({error.strerror}); name the right .idx file") from error
    if len(keys) == 0:
        raise DataError(f"{path}: the index is empty; delete it to have it rebuilt from the .rec file")
    unaligned = np.flatnonzero((offsets & 3).astype(bool))
    if len(unaligned):
        row = unaligned[0]
        raise DataError(
            f"{path} line {_line_of(path, row)}: key {keys[row]} has offset {offsets[row]}, "
            "but records begin at multiples of 4; delete the index to have it rebuilt"
        )
    if np.all(keys[1:] > keys[:-1]):
        return keys, offsets
    order = np.argsort(keys, kind="stable")
    keys, offsets = keys[order], offsets[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        first, second = _line_of(path, order[twice[0]]), _line_of(path, order[twice[0] + 1])
        raise DataError(
            f"{path} line {second}: key {keys[twice[0]]} is already on line {first}; "
            "delete the index to have it rebuilt from the .rec file"
        )
    return keys, offsets


def index_line(key: int, offset: int) -> bytes:
    """One line of an index as MXNet writes it."""
    return b"%d\t%d\n" % (key, offset)


def _parse(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys and offsets in the order of the lines."""
    lines = 1 + sum(text.count(b"\n") for text in _blocks(path))
    keys, offsets = np.empty(lines, dtype=np.int64), np.empty(lines, dtype=np.int64)
    rows, line = 0, 1
    for text in _blocks(path):
        table = regular_table(text, 2)
        if table is None:
            table = _parse_by_line(text, path, line)
        if rows + len(table) > lines:
            raise DataError(f"{path}: the index is being written while it is read; wait until it is complete")
        keys[rows : rows + len(table)], offsets[rows : rows + len(table)] = table[:, 0], table[:, 1]
        rows, line = rows + len(table), line + text.count(b"\n")
    return keys[:rows], offsets[:rows]


def _blocks(path: Path) -> Iterator[bytes]:
    """The text in pieces of whole lines; DataError for a line longer than BLOCK, which is no index line."""
    return line_blocks(path, "index: delete it to have it rebuilt from the .rec file", BLOCK)


def _parse_by_line(text: bytes, path: Path, first: int = 1) -> np.ndarray:
    """The table (n, 2) of a text that may hold other white space; names the first line that is no index line."""
    rows = []
    for number, line in enumerate(text.split(b"\n"), start=first):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not all(field.isdigit() and len(field) <= MAX_DIGITS for field in fields):
            raise DataError(
                f"{path} line {number}: {line[:60]!r} is not `key TAB offset` with two whole numbers >= 0; "
                "delete the index to have it rebuilt from the .rec file"
            )
        rows.append((int(fields[0]), int(fields[1])))
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _line_of(path: Path, row: int) -> int:
    """The line number (from 1) of a row, blank lines counted."""
    lines = (line for text in _blocks(path) for line in text.splitlines())
    numbers = (number for number, line in enumerate(lines, start=1) if line.strip())
    return next(islice(numbers, int(row), None))

"""Columns of numbers out of the text files of IJB-B and IJB-C, with the line of what does not fit."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ...utils.errors import DataError


def integers(path: Path, columns: int) -> np.ndarray:
    """A file of `columns` integers a line, separated by blanks -> int64 (lines, columns). Raises DataError."""
    text = _read(path)
    values = _numbers(text, np.int64)
    # Blanks and line ends are one to the parser, so what it read says nothing about lines.
    if values is None or values.size != columns * _lines(text) or not _single_blanks(text, columns - 1):
        _check_lines(path, text, columns, names=False)
    return values.reshape(-1, columns)


def named_numbers(path: Path, columns: int) -> tuple[list[str], np.ndarray]:
    """A file of a name and `columns` numbers a line, separated by blanks -> names, float64 (lines, columns).

    Raises DataError.
    """
    text = _read(path)
    lines = text.splitlines()
    names, rest, well = [], [], True
    for line in lines:
        name, _, numbers = line.strip().partition(b" ")
        names.append(name)
        rest.append(numbers)
        well &= numbers.count(b" ") == columns - 1
    values = _numbers(b"\n".join(rest), np.float64)
    if values is None or not well:
        _check_lines(path, text, columns, names=True)
    return [name.decode("utf-8", "surrogateescape") for name in names], values.reshape(-1, columns)


def _read(path: Path) -> bytes:
    try:
        text = path.read_bytes().rstrip()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; IJB's meta folder has this file") from error
    if not text:
        raise DataError(f"{path}: the file is empty")
    return text


def _lines(text: bytes) -> int:
    return text.count(b"\n") + 1


def _numbers(text: bytes, dtype: type) -> np.ndarray | None:
    """All numbers in `text`, or None where something else stands in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=dtype, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _single_blanks(text: bytes, blanks: int) -> bool:
    """Whether each line has that many blanks."""
    characters = np.frombuffer(text, dtype=np.uint8)
    ends, places = np.flatnonzero(characters == ord("\n")), np.flatnonzero(characters == ord(" "))
    if len(places) != blanks * (len(ends) + 1):
        return False
    places = places.reshape(-1, blanks)
    return bool((places[:-1, -1] < ends).all() and (places[1:, 0] > ends).all())


def _check_lines(path: Path, text: bytes, columns: int, names: bool) -> None:
    """DataError for the first line that has not what it should have; nothing when only its blanks are unusual."""
    kind = f"a name and {columns} numbers" if names else f"{columns} integers"
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        values = _numbers(b" ".join(parts[names:]), np.float64 if names else np.int64) if len(parts) > names else None
        if len(parts) != columns + names or values is None or values.size != columns:
            shown = line[:80].decode("utf-8", "replace")
            raise DataError(f"{path}: line {number} is {shown!r}: it should be {kind}, separated by blanks")

"""Text files as other programs write them: one reader, tolerant of how a text is written and strict about what it says.

Taken as they come: byte order marks (UTF-8, and UTF-16 where it begins with one), line ends of any system, tabs or
several blanks between fields, quoted CSV fields, semicolons or tabs in a CSV, `1.0` for a whole number, backslashes
between the parts of a path, and names that are not UTF-8, which are kept byte for byte (with surrogates in them).
Refused with file and line: NUL bytes, what is no number where one is meant, and numbers that no file here can mean.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError
from .files import read_regular

LARGEST = 1 << 53  # up to here every whole number is exact in float64
MAX_JSON = 1 << 28  # bytes of a JSON file
MAX_LINES = 1 << 31  # bytes of a file with a JSON text per line: some four million steps of a run
MAX_DIGITS = 18  # every number of up to 18 digits fits int64
BLOCK = 1 << 20  # bytes of text at a time
TAB, NEWLINE, BLANK, ZERO, NINE = b"\t\n 09"
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}(?:\.0*)?")
_NUMBER_LENGTH = 100  # characters; printf's longest spelling of a float64 that anybody writes is shorter


def read_text(path: str | Path, what: str, most: int | None = None) -> str:
    r"""The text of a file, its lines ended by "\n".

    Args:
        path: the file.
        what: it holds, for messages.
        most: bytes that it may have; None: any number.

    Raises:
        DataError: unreadable, no regular file, too large, in UTF-16 and damaged, or with a NUL byte; names file and
            line.
    """
    try:
        data = read_regular(path, most)
    except OSError as error:
        raise DataError(f"{path}: the {what} cannot be read ({error.strerror})") from error
    text = plain(data, path, what).decode("utf-8", "surrogateescape")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path} line {line}: a NUL byte: no {what}, or text in UTF-16 without a byte order mark")
    return text


def read_lines(path: str | Path, what: str) -> list[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank. Raises as `read_text`."""
    return [(number, line) for number, line in enumerate(read_text(path, what).split("\n"), start=1) if line.strip()]


def fields_of(line: str) -> list[str]:
    """The fields of a line with blanks or tabs between them, however many.

    Example:
        >>> fields_of(" a.jpg\\t\\t1  2 ")
        ['a.jpg', '1', '2']
    """
    return [field for field in line.replace("\t", " ").split(" ") if field]


def read_csv(path: str | Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """Line, where it begins, and fields of each row that is not empty; blanks around fields are no part of them.

    Commas separate the fields; semicolons or tabs do where the first line has no comma, as spreadsheets write it in
    countries with decimal commas.

    Raises:
        DataError: as `read_text`, or quotes that do not match; names file and line.
    """
    text = read_text(path, what)
    first = text.lstrip("\n").split("\n", 1)[0]
    comma = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=comma, skipinitialspace=comma != "\t", strict=True)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{path} line {line}: no row of a CSV ({error})") from error
        if row is None:
            return
        fields = [field.strip() for field in row]
        if any(fields):
            yield line, fields


def read_json(path: str | Path, what: str) -> Any:
    """The content of a JSON file of at most MAX_JSON bytes.

    Raises DataError as `read_text`, and for what is not JSON; names the file.
    """
    return parse_json(read_text(path, what, MAX_JSON), path)


def read_json_lines(path: str | Path, what: str, *, damaged: bool = False) -> Iterator[tuple[int, Any]]:
    """Number (from 1) and content of each line of a file with one JSON text per line, of at most MAX_LINES bytes.

    Args:
        path: the file.
        what: it holds, for messages.
        damaged: pass over lines that are no JSON: a kill can cut the last one short, a power cut fill some with NULs.

    Raises:
        DataError: as `read_text`, and for a line that is not JSON, unless `damaged`; names file and line.
    """
    if not damaged:
        for number, text in enumerate(read_text(path, what, MAX_LINES).split("\n"), start=1):
            if text.strip():
                yield number, parse_json(text, f"{path} line {number}")
        return
    try:
        data = read_regular(path, MAX_LINES)
    except OSError as error:
        raise DataError(f"{path}: the {what} cannot be read ({error.strerror})") from error
    for number, line in enumerate(data.splitlines(), start=1):
        with suppress(DataError):
            yield number, parse_json(line.decode("utf-8", "replace"), path)


def parse_json(text: str, where: str | Path) -> Any:
    """The content of a JSON text.

    Args:
        text: the JSON.
        where: it comes from, for messages.

    Raises:
        DataError: no JSON, nested without end, or an object that has one name twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    except RecursionError as error:
        raise DataError(f"{where}: not JSON that anybody means (nested too deeply)") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def finite_number(text: str) -> float | None:
    """The number that a text is, up to LARGEST; None for any other text, inf, nan and larger numbers.

    Example:
        >>> [finite_number(text) for text in ("-1.5", "4e1", "nan", "1e300", "1_0", "")]
        [-1.5, 40.0, None, None, None, None]
    """
    text = text.strip()
    if len(text) > _NUMBER_LENGTH or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) and abs(value) <= LARGEST else None


def whole_number(text: str) -> int | None:
    """The whole number that a text is, `7` or `7.0`, up to LARGEST; None for any other text.

    Example:
        >>> [whole_number(text) for text in ("007", "1.0", "1.5", "9" * 5000)]
        [7, 1, None, None]
    """
    text = text.strip()
    if not _WHOLE.fullmatch(text):
        return None
    value = int(text.partition(".")[0])
    return value if abs(value) <= LARGEST else None


def meant_path(root: str | Path, name: str) -> str:
    r"""The path below `root` that a list means by `name`.

    Where no file has just that name: with "/" in the place of "\", and without quotes or blanks around it, if there is
    such a file.

    Args:
        root: what the list's paths are relative to.
        name: as the list has it.

    Returns:
        one of these, or `name` when there is no such file.
    """
    bare = name.strip()
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        bare = bare[1:-1].replace('""', '"')
    variants = dict.fromkeys((name, name.replace("\\", "/"), bare, bare.replace("\\", "/")))
    if len(variants) == 1:  # nothing to find out, which would ask the disk
        return name
    return next((variant for variant in variants if variant and os.path.isfile(os.path.join(root, variant))), name)


# --- Bytes: the same tolerance for files of millions of lines ---------------------------------------------------------


def plain(data: bytes, path: str | Path, what: str) -> bytes:
    r"""A text's bytes in UTF-8, without a byte order mark, lines ended by "\n". DataError for a damaged UTF-16 text."""
    if data.startswith(WIDE):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError as error:
            raise DataError(f"{path}: no {what}: not text in UTF-8, nor in UTF-16 as it begins ({error})") from error
        if not data:
            raise DataError(f"{path}: no {what}: not text in UTF-8, and nothing follows the mark of UTF-16")
    data = data.removeprefix(codecs.BOM_UTF8)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def line_blocks(path: str | Path, what: str, size: int = BLOCK) -> Iterator[bytes]:
    """A text's bytes, as `plain` gives them, in pieces of whole lines.

    Args:
        path: the file.
        what: it holds, for messages.
        size: of a piece in bytes, and of the longest line.

    Raises:
        OSError: the file cannot be read.
        DataError: a longer line, or a damaged text in UTF-16; names the file.
    """
    with open(path, "rb") as file:
        mark = file.read(len(codecs.BOM_UTF8))
        if mark != codecs.BOM_UTF8:
            file.seek(0)
        if mark.startswith(WIDE):  # rare enough to be read whole
            yield plain(file.read(), path, what)
            return
        while text := file.read(size):
            if b"\r" in text and b"\n" not in text:  # line ends of one CR, as rare
                yield plain(text + file.read(), path, what)
                return
            if not text.endswith(b"\n"):
                rest = file.readline(size)
                if len(rest) == size and not rest.endswith(b"\n"):
                    raise DataError(f"{path}: a line of more than {size} bytes: no {what}")
                text += rest
            yield plain(text, path, what) if b"\r" in text else text


def regular_table(text: bytes, columns: int) -> np.ndarray | None:
    """The table, int64 (n, columns), of a text made only of digits with one tab or blank between the numbers of a line;
    None for any other text.

    Whole-array checks, because files of millions of lines are common and a loop over them takes seconds. Line ends and
    blanks are one to the parser, so the checks are what keeps each number on its line.
    """
    if not text.endswith(b"\n"):
        text += b"\n"
    codes = np.frombuffer(text, dtype=np.uint8)
    marks = np.flatnonzero(codes < ZERO)
    if len(marks) % columns or codes.max() > NINE:
        return None
    kinds = codes[marks].reshape(-1, columns)
    separated = ((kinds[:, :-1] == TAB) | (kinds[:, :-1] == BLANK)).all() and (kinds[:, -1] == NEWLINE).all()
    widths = np.diff(marks, prepend=-1) - 1
    if not separated or widths.min() < 1 or widths.max() > MAX_DIGITS:
        return None
    return np.fromstring(text, dtype=np.int64, sep=" ").reshape(-1, columns)

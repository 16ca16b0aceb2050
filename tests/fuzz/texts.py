"""Damaged text: bytes as in any file, and pieces of lines, fields and numbers; and which lines have come through whole.

A whole line is one of the undamaged file's, with nothing before it on its line and nothing after it. A reader that
accepts the file must give it its meaning.
"""

from __future__ import annotations

import re

import numpy as np
from fuzz.case import pick
from fuzz.mutate import Damaged, damage, fresh

PIECES = (
    b"\t", b"\n", b"\r\n", b"\r", b" ", b"  ", b",", b";", b'"', b"'", b"\\", b"/", b"#", b"\0", b"\xff", b"\x1a",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x85", b"\xc2\x85", "\u2028".encode(), b"\x0b", b"\x0c", b"\n\n",
    b" \n", b"\t\t", b"0", b"1", b"0", b"1", b"-", b"+", b".", b"1.0", b"-1", b"0x10", b"1e300", b"1e-300", b"1e999",
    b"nan", b"inf", b"NaN", b"Infinity", b"null", b"true", b"9" * 19, b"9" * 25, b"9" * 400, b"9" * 5000, b"_", b"1_0",
    "\u0663".encode(), "\u00b2".encode(), b"a" * 300, b"x/" * 600, b"../", b"{", b"}", b"[", b"]", b":", b"[" * 3000,
    b'{"a":' * 3000,
)  # fmt: skip
_ENDS = re.compile(rb"\r\n|\r|\n")


def damaged_text(text: bytes, other: bytes, rng: np.random.Generator) -> Damaged:
    """Another text than `text`: one to four changes; pieces of `other` may come into it."""
    file, second = Damaged.whole(text), Damaged.whole(other, 1 << 24)
    if rng.random() < 0.25:
        return damage(file, rng, [0], second, grain=1)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        file = _CHANGES[int(rng.integers(len(_CHANGES)))](file, rng, second)
    return file


def whole_lines(file: Damaged, text: bytes) -> dict[int, int]:
    """Number of a line of the damaged file -> number of the undamaged file's line that it is; both from 1."""
    begins, at = {}, 0
    for number, line in enumerate(text.split(b"\n"), 1):
        begins[at] = (number, len(line))
        at += len(line) + 1
    found = {}
    for number, (start, stop) in enumerate(_spans(file.bytes()), 1):
        if start == stop or file.changed[start:stop].any():
            continue
        origin = file.origin[start:stop]
        line, length = begins.get(int(origin[0]), (0, -1))
        if length == stop - start and bool(np.all(np.diff(origin) == 1)):
            found[number] = line
    return found


def _spans(data: bytes) -> list[tuple[int, int]]:
    """Where each line begins and ends, by any system's line ends."""
    spans, at = [], 0
    for end in _ENDS.finditer(data):
        spans.append((at, end.start()))
        at = end.end()
    return [*spans, (at, len(data))]


def _place(file: Damaged, rng: np.random.Generator) -> int:
    """Anywhere; at a mark between fields or lines as often."""
    size = len(file.data)
    if rng.random() < 0.5:
        marks = np.flatnonzero(np.isin(file.data, np.frombuffer(b'\t\n ,:[]"', np.uint8)))
        if len(marks):
            return int(marks[int(rng.integers(len(marks)))]) + int(rng.integers(2))
    return int(rng.integers(size + 1))


def _piece(file: Damaged, rng: np.random.Generator, other: Damaged) -> Damaged:
    at = _place(file, rng)
    return file.cut(0, at) + fresh(pick(rng, PIECES)) + file.cut(at + int(rng.integers(3)), len(file.data))


def _line(file: Damaged, rng: np.random.Generator) -> tuple[int, int]:
    """A line with its end."""
    ends = np.flatnonzero(file.data == 10)
    row = int(rng.integers(len(ends) + 1))
    return (0 if row == 0 else int(ends[row - 1]) + 1), (int(ends[row]) + 1 if row < len(ends) else len(file.data))


def _lost(file: Damaged, rng: np.random.Generator, other: Damaged) -> Damaged:
    start, stop = _line(file, rng)
    return file.cut(0, start) + file.cut(stop, len(file.data))


def _repeated(file: Damaged, rng: np.random.Generator, other: Damaged) -> Damaged:
    start, stop = _line(file, rng)
    at = _line(file, rng)[0]
    return file.cut(0, at) + file.cut(start, stop) + file.cut(at, len(file.data))


def _foreign(file: Damaged, rng: np.random.Generator, other: Damaged) -> Damaged:
    start, stop = _line(other, rng)
    at = _line(file, rng)[0]
    return file.cut(0, at) + other.cut(start, stop) + file.cut(at, len(file.data))


def _field(file: Damaged, rng: np.random.Generator, other: Damaged) -> Damaged:
    """A field lost, or in the place of another one."""
    a, b = sorted(_place(file, rng) for _ in range(2))
    end = min(b, a + 40)
    piece = file.cut(a, end) if rng.random() < 0.5 else file.cut(0, 0)
    to = _place(file, rng)
    rest = file.cut(0, a) + file.cut(end, len(file.data))
    to = min(to, len(rest.data))
    return rest.cut(0, to) + piece + rest.cut(to, len(rest.data))


_CHANGES = (_piece, _piece, _piece, _lost, _repeated, _foreign, _field)

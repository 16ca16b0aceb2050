"""MATLAB's .mat files of level 5 (`save` with -v6 or -v7): numbers, text, and cells of both.

header   124 bytes of text and offsets, version 0x0100, "IM" (little-endian) or "MI"
element  tag (type, length), content, zeros up to a multiple of 8; up to 4 bytes may stand in the tag itself
array    an element of elements: flags with the class, dimensions, name, then numbers, characters or further arrays

-v7 wraps each variable into a compressed element. Every length is checked against what is left of the element around
it, so a damaged file costs no more than a whole one; a compressed variable is used only when its check sum is right.
SciPy's reader ends the process for some damaged files, and takes what memory a file asks for.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...utils.errors import DataError

MOST_BYTES = 24 << 20  # of one variable, inflated; a list of TinyFace's 153,428 distractors takes 13 to 18 MB
MOST_CHARACTERS = 6 << 20  # in all texts of one variable
DEEPEST = 16  # cells within cells
MOST_DIMENSIONS = 32
_HEADER, _TAG = 128, 8
_BEGINNING = 1024  # bytes of a variable that hold its class, dimensions and name
_MATRIX, _COMPRESSED, _INT8, _INT32, _UINT32 = 14, 15, 1, 5, 6
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "ascii", 2: "latin-1", 3: "utf-16", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHAR = 1, 4
_NUMERIC = range(6, 16)
_OTHERS = {2: "a struct", 3: "an object", 5: "a sparse matrix", 16: "a function", 17: "an object"}
_COMPLEX = 0x800
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_mat(path: str | Path, names: Collection[str]) -> dict[str, Any]:
    """Some variables of a .mat file; the others are passed over.

    Args:
        path: the file.
        names: variables to read.

    Returns:
        What there is of them. Numbers: an array of its dimensions, in the type that they are stored in. Text:
        str for one row, an array of str for several or for none. Cells: an array of objects, each one of these.

    Raises:
        DataError: absent, no .mat file of level 5, damaged; or a variable of `names` is there twice, is neither
            numbers, text nor cells, or takes more than `MOST_BYTES` or `MOST_CHARACTERS`. The message names file,
            variable and byte.

    Example:
        >>> from scipy.io import savemat
        >>> savemat("pairs.mat", {"probe_ids": [[1], [1], [2]]})
        >>> read_mat("pairs.mat", ["probe_ids"])["probe_ids"].tolist()
        [[1], [1], [2]]
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: not a file that a .mat file could be")
        with open(path, "rb") as file:
            return _variables(file, path, set(names))
    except OSError as error:
        raise DataError(f"{path}: the .mat file cannot be read ({error.strerror})") from error


def _variables(file: BinaryIO, path: Path, names: set[str]) -> dict[str, Any]:
    size = os.fstat(file.fileno()).st_size
    order = _byte_order(file.read(_HEADER), path)
    found: dict[str, Any] = {}
    at = _HEADER
    while at < size:
        where = f"{path}: at byte {at}"
        file.seek(at)
        tag = file.read(_TAG)
        if len(tag) < _TAG:
            raise DataError(f"{where}: {len(tag)} bytes that are no variable; is the file cut short?")
        kind, length = struct.unpack(order + "II", tag)
        if kind not in (_MATRIX, _COMPRESSED):
            raise DataError(f"{where}: an element of type {kind}, where a variable should begin; the file is damaged")
        if length > size - at - _TAG:
            raise DataError(
                f"{where}: a variable of {length} bytes, {size - at - _TAG} are left; the file is cut short"
            )
        name, content = _wanted(file, length, kind == _COMPRESSED, order, names, where)
        if name in names:
            if name in found:
                raise DataError(f"{where}: a second variable {name}")
            found[name] = _Arrays(content, order, f"{where}: {name}").array(0, len(content), 0)[0]
        at += _TAG + length
    return found


def _byte_order(header: bytes, path: Path) -> str:
    """The sign of the byte order for struct and NumPy."""
    advice = "save it again by save(..., '-v7')"
    if header.startswith(_HDF5) or header[124:128] in (b"\0\2IM", b"\2\0MI"):
        raise DataError(f"{path}: MATLAB's format 7.3 (HDF5), which is not read; {advice}")
    if len(header) >= 20 and 0 in header[:4]:
        raise DataError(f"{path}: MATLAB's format of level 4, or no .mat file; {advice}")
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(header[124:128])
    if order is None:
        raise DataError(f"{path}: no .mat file of level 5: its first {_HEADER} bytes are no header of one")
    return order


def _wanted(
    file: BinaryIO, length: int, compressed: bool, order: str, names: set[str], where: str
) -> tuple[str, bytes]:
    """A variable's name; and its whole content, inflated, where it is one of `names`."""
    start = file.tell()
    beginning = file.read(min(length, 2 * _BEGINNING))
    if compressed:
        beginning, _ = _inflated(beginning, _BEGINNING + _TAG, where)
        kind, inner = struct.unpack_from(order + "II", beginning.ljust(_TAG, b"\0"))
        if kind != _MATRIX:
            raise DataError(f"{where}: a compressed element of type {kind}, not a variable")
        beginning = beginning[_TAG:]
    else:
        inner = length
    name = _Arrays(beginning, order, where).head(0, min(inner, len(beginning)))[2] if inner else ""
    if name not in names:
        return name, b""
    if inner > MOST_BYTES or length > MOST_BYTES:
        raise DataError(f"{where}: {name} takes {max(inner, length)} bytes; more than {MOST_BYTES} are not read")
    file.seek(start)
    content = file.read(length)
    if compressed:
        content, whole = _inflated(content, inner + _TAG + 1, where)
        if not whole or len(content) != inner + _TAG:
            raise DataError(f"{where}: the compressed bytes of {name} are not the {inner} that it says; it is damaged")
        content = content[_TAG:]
    if len(content) != inner:
        raise DataError(f"{where}: {len(content)} of {inner} bytes of {name} could be read")
    return name, content


def _inflated(data: bytes, most: int, where: str) -> tuple[bytes, bool]:
    """At most `most` bytes, and whether that is all there is and all of `data`, with the right check sum."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, most)
    except zlib.error as error:
        raise DataError(f"{where}: a compressed variable that is damaged ({error})") from error
    return content, stream.eof and not stream.unused_data


class _Arrays:
    """Arrays in the content of a variable.

    Args:
        data: the content, without the tag around it.
        order: byte order.
        where: file, place and name, for messages.
    """

    def __init__(self, data: bytes, order: str, where: str) -> None:
        self.data, self.order, self.where = data, order, where
        self.characters_left = MOST_CHARACTERS
        self.tag = struct.Struct(order + "II")
        self.usual = struct.Struct(order + "14I")  # of a row of characters without a name, up to its characters

    def refuse(self, at: int, what: str) -> DataError:
        return DataError(f"{self.where}: {what} (byte {at} of its content)")

    def element(self, at: int, end: int) -> tuple[int, int, int, int]:
        """Type of the element at `at`, where its content begins, its length, and where the next one begins."""
        if end - at < _TAG:
            raise self.refuse(at, f"{end - at} bytes left, where an element should begin")
        kind, length = self.tag.unpack_from(self.data, at)
        if kind >> 16:  # length and type in one word, content in the other
            kind, length = kind & 0xFFFF, kind >> 16
            if length > 4:
                raise self.refuse(at, f"{length} bytes in a tag that has room for 4")
            return kind, at + 4, length, at + _TAG
        start = at + _TAG
        if length > end - start:
            raise self.refuse(at, f"an element of {length} bytes, {end - start} are left")
        return kind, start, length, min(end, start + length + -length % 8)

    def head(self, at: int, end: int) -> tuple[int, tuple[int, ...], str, int]:
        """An array's flags, dimensions and name, and where what follows them begins."""
        kind, start, length, after = self.element(at, end)
        if kind != _UINT32 or length != 8:
            raise self.refuse(at, f"an element of type {kind} and {length} bytes, where an array's flags should be")
        flags = self.tag.unpack_from(self.data, start)[0]
        kind, start, length, following = self.element(after, end)
        if kind != _INT32 or length % 4 or not 2 <= length // 4 <= MOST_DIMENSIONS:
            raise self.refuse(after, f"an element of type {kind} and {length} bytes, where dimensions should be")
        dimensions = struct.unpack_from(f"{self.order}{length // 4}i", self.data, start)
        if min(dimensions) < 0:
            raise self.refuse(after, f"dimensions {dimensions}")
        kind, start, length, content = self.element(following, end)
        if kind != _INT8:
            raise self.refuse(following, f"an element of type {kind}, where a name should be")
        return flags, dimensions, self.data[start : start + length].decode("latin-1"), content

    def array(self, at: int, end: int, depth: int) -> tuple[Any, str]:
        """The array whose elements fill `at` to `end`, and its name."""
        if at == end:
            return _NOTHING, ""
        flags, dimensions, name, at = self.head(at, end)
        kind = flags & 0xFF
        if kind == _CELL:
            return self.cells(dimensions, at, end, depth), name
        if kind not in _NUMERIC and kind != _CHAR:
            what = _OTHERS.get(kind, f"an array of class {kind}")
            raise self.refuse(at, f"{what}; numbers, text and cells of both are read")
        if flags & _COMPLEX:
            raise self.refuse(at, "complex numbers, which are not read")
        stored, start, length, after = self.element(at, end)
        if after != end:
            raise self.refuse(after, f"{end - after} bytes left over")
        count = _product(dimensions)
        if kind == _CHAR:
            return self.characters(stored, start, length, dimensions, count), name
        if stored not in _NUMBERS:
            raise self.refuse(at, f"numbers of type {stored}")
        dtype = np.dtype(self.order + _NUMBERS[stored])
        if length != count * dtype.itemsize:
            raise self.refuse(at, f"{length} bytes for {dimensions} numbers of {dtype.itemsize} bytes")
        values = np.frombuffer(self.data, dtype, count, start).reshape(dimensions, order="F")
        return values.astype(dtype.newbyteorder("="), copy=False), name

    def characters(self, stored: int, start: int, length: int, dimensions: tuple[int, ...], count: int) -> Any:
        """Text: str for one row, else an array of strings along the last dimension."""
        codec = _TEXT.get(stored)
        if codec is None:
            raise self.refuse(start, f"characters of type {stored}")
        if codec in ("utf-16", "utf-32"):
            codec += "-le" if self.order == "<" else "-be"
        self.characters_left -= count
        if self.characters_left < 0:
            raise self.refuse(start, f"text of more than {MOST_CHARACTERS} characters, which is not read")
        try:
            text = str(self.data[start : start + length], codec)
        except UnicodeDecodeError as error:
            raise self.refuse(start + error.start, f"characters that are not {codec} ({error.reason})") from error
        rows = _product(dimensions[:-1])
        if len(text) != count:
            if rows > 1 or len(text.encode("utf-16-le", "surrogatepass")) != 2 * count:  # as MATLAB counts them
                raise self.refuse(start, f"{len(text)} characters for dimensions {dimensions}")
        if count == 0:
            return np.empty(0, dtype="U1")
        if rows == 1:
            return text
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").reshape(dimensions, order="F")
        return (
            np.ascontiguousarray(points).view(f"<U{dimensions[-1]}")[..., 0].astype(f"=U{dimensions[-1]}", copy=False)
        )

    def cells(self, dimensions: tuple[int, ...], at: int, end: int, depth: int) -> np.ndarray:
        """The arrays of a cell array, one after another."""
        if depth == DEEPEST:
            raise self.refuse(at, f"cells within cells deeper than {DEEPEST}")
        count = _product(dimensions)
        if count > (end - at) // _TAG:  # each has a tag at least
            raise self.refuse(at, f"{end - at} bytes for {dimensions} cells")
        values: list[Any] = []
        data, unpack, last = self.data, self.usual.unpack_from, end - self.usual.size
        while len(values) < count:
            if at <= last:
                # Nearly all cells of a long list: flags, (1, n), no name, UTF-8. Whatever differs takes the long way.
                matrix, size, a, b, flags, _, c, d, rows, columns, e, f, kind, length = unpack(data, at)
                start, room = at + 56, size - 48
                if kind >> 16:
                    kind, length, start, room = kind & 0xFFFF, kind >> 16, at + 52, 4 if size == 48 else -1
                usual = (matrix, a, b, flags & 0x8FF, c, d, rows, e, f, kind) == _USUAL and columns == length
                if usual and length <= room <= length + 7 and at + size + _TAG <= end and length:
                    text = data[start : start + length]
                    if text.isascii():
                        values.append(text.decode("ascii"))
                        at += size + _TAG
                        continue
            kind, start, length, after = self.element(at, end)
            if kind != _MATRIX or start != at + _TAG:
                raise self.refuse(at, f"an element of type {kind}, where a cell should be")
            values.append(self.array(start, start + length, depth + 1)[0])
            at = after
        if at != end:
            raise self.refuse(at, f"{end - at} bytes after the last cell")
        cells = np.empty(count, dtype=object)
        for number, value in enumerate(values):
            cells[number] = value
        return cells.reshape(dimensions, order="F")


_USUAL = (_MATRIX, _UINT32, 8, _CHAR, _INT32, 8, 1, _INT8, 0, 16)
_NOTHING = np.empty((0, 0))  # an array of no bytes at all: MATLAB's []


def _product(dimensions: tuple[int, ...]) -> int:
    product = 1
    for size in dimensions:
        product *= size
    return product

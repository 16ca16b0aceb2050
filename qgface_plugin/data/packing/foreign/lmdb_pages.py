"""Reader of LMDB files: keys and where their values lie, by the pages of the file alone.

The library maps the file into memory and ends the whole process when a file is cut short; here that is an error.
Nothing is locked or written. A file is a tree of pages of equal size, each with a head of 16 bytes: number, flags, and
the bounds of its free space, or, for a value that has pages of its own, how many. Pages 0 and 1 hold the roots; the
newer counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ....utils.errors import DataError
from ..stored import StoredImages

MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08  # kinds of pages
BIG, SUB, DUPLICATES = 0x01, 0x02, 0x04  # kinds of nodes: a value on pages of its own; a database; several values
HEAD = struct.Struct("<QHHHH")  # number, -, kind, end of the node table, begin of the nodes
NODE = struct.Struct("<HHHH")  # 48 bits: length of the value, flags, or a branch's page; length of the key
ROOTS = struct.Struct("<IIQQ48s48sQQ")  # magic, version, -, -, free pages, main database, last page, transaction
DATABASE = struct.Struct("<IHHQQQQQ")  # page size or -, flags, depth, pages of three kinds, entries, root
NO_PAGE = (1 << 64) - 1
DEEPEST = 32


class Item(NamedTuple):
    """A key, and the place of its value in the file."""

    key: bytes
    offset: int
    size: int


class LmdbFile:
    """The main database of an LMDB file.

    Args:
        path: the file, or the folder with its `data.mdb`.

    Attributes:
        store: the file, to read values from.
        entries: how many keys there are, by the file's own word.

    Raises:
        DataError: no LMDB file, of a version that nobody writes, cut short, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.store = store = StoredImages(path / "data.mdb" if path.is_dir() else path)
        self.path = store.path
        first = self._roots(0)
        if first is None:
            raise DataError(f"{self.path}: not an LMDB file")
        self._page_size = size = DATABASE.unpack(first[4])[0]
        if not 256 <= size <= 65536 or size & (size - 1):
            raise DataError(f"{self.path}: pages of {size} bytes, which LMDB does not have: damaged")
        second = self._roots(size)
        newest = max((roots for roots in (first, second) if roots), key=lambda roots: roots[7])
        if newest[1] != VERSION:
            raise DataError(f"{self.path}: LMDB's format {newest[1]}; the one in use is {VERSION}")
        _, flags, self._depth, *_, self.entries, self._root = DATABASE.unpack(newest[5])
        self._pages = newest[6] + 1
        if store.size < self._pages * size:
            raise DataError(
                f"{self.path}: the file has {store.size} bytes, and its {self._pages} pages need "
                f"{self._pages * size}: it is cut short; fetch it again"
            )
        if flags & DUPLICATES or self._depth > DEEPEST:
            raise DataError(f"{self.path}: the main database has several values per key, or is damaged")

    def items(self) -> Iterator[Item]:
        """All keys in the order of their bytes, with the places of their values.

        Raises:
            DataError: a page that is not what it should be; names it.
        """
        found = 0
        for item in () if self._root == NO_PAGE else self._walk(self._root, 1):
            found += 1
            if found > self.entries:
                break
            yield item
        if found != self.entries:
            raise DataError(f"{self.path}: {self.entries} keys by its own word, and {found} or more in it: damaged")

    def _roots(self, offset: int) -> tuple | None:
        if self.store.size < offset + HEAD.size + ROOTS.size:
            return None
        head = HEAD.unpack(self.store.read((offset, HEAD.size)))
        roots = ROOTS.unpack(self.store.read((offset + HEAD.size, ROOTS.size)))
        return roots if head[2] & META and roots[0] == MAGIC else None

    def _page(self, number: int, kinds: int) -> tuple[bytes, int, int]:
        """A page, its kind, and how many nodes it has."""
        if not 2 <= number < self._pages:
            raise DataError(f"{self.path}: page {number} of {self._pages}: damaged")
        page = self.store.read((number * self._page_size, self._page_size))
        own, _, kind, lower, upper = HEAD.unpack_from(page)
        good = own == number and kind & kinds and HEAD.size <= lower <= upper <= self._page_size and lower % 2 == 0
        if not good:
            raise DataError(f"{self.path}: page {number} is damaged")
        return page, kind, (lower - HEAD.size) // 2

    def _walk(self, number: int, depth: int) -> Iterator[Item]:
        """The items below a page; deeper than the tree is said to be, something leads in a circle."""
        page, kind, count = self._page(number, LEAF if depth == self._depth else BRANCH)
        for index in range(count):
            (at,) = struct.unpack_from("<H", page, HEAD.size + 2 * index)
            if not HEAD.size <= at <= self._page_size - NODE.size:
                raise DataError(f"{self.path}: a node of page {number} lies outside of it: damaged")
            low, high, flags, length = NODE.unpack_from(page, at)
            begin = at + NODE.size
            if kind & BRANCH:
                yield from self._walk(low | high << 16 | flags << 32, depth + 1)
            else:
                yield self._item(number, page, begin, length, low | high << 16, flags)

    def _item(self, number: int, page: bytes, begin: int, length: int, size: int, flags: int) -> Item:
        value = begin + length
        if flags & (SUB | DUPLICATES):
            raise DataError(f"{self.path}: page {number}: a database within the database; not a set of faces")
        if value + (8 if flags & BIG else size) > self._page_size:
            raise DataError(f"{self.path}: a value of page {number} ends outside of it: damaged")
        key, offset = page[begin:value], number * self._page_size + value
        if flags & BIG:
            (first,) = struct.unpack_from("<Q", page, value)
            offset = first * self._page_size + HEAD.size
            if not 2 <= first < self._pages or offset + size > self._pages * self._page_size:
                raise DataError(f"{self.path}: the value of key {key[:40]!r} lies outside of the file: damaged")
            own, _, kind, *_ = HEAD.unpack(self.store.read((offset - HEAD.size, HEAD.size)))
            if own != first or not kind & OVERFLOW:
                raise DataError(f"{self.path}: page {first}, with the value of key {key[:40]!r}, is damaged")
        return Item(key, offset, size)

"""Damaged copies of a file, and where each of their bytes came from.

All randomness is a generator's, so a case is made again from its seed and number alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INSERTED = -1  # the origin of a byte that no seed file had
WORDS = (0, 1, 2, 3, 4, 7, 8, 27, 28, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x1FFFFFFF, 0x20000000,
         0x40000000, 0x60000000, 0xCED7230A, 0x3F800000, 0x7FC00000)  # fmt: skip


@dataclass
class Damaged:
    """A file's bytes, uint8 (n,); the place in the seed files that each came from, int64 (n,), or INSERTED; and
    whether a byte was overwritten where it stood, bool (n,)."""

    data: np.ndarray
    origin: np.ndarray
    changed: np.ndarray

    @classmethod
    def whole(cls, data: bytes, start: int = 0) -> Damaged:
        """The undamaged file, whose first byte has the origin `start`."""
        codes = np.frombuffer(data, dtype=np.uint8)
        return cls(codes, start + np.arange(len(codes)), np.zeros(len(codes), dtype=bool))

    def bytes(self) -> bytes:
        return self.data.tobytes()

    def untouched(self) -> bool:
        """Whether no byte is changed, moved, lost or added."""
        return not self.changed.any() and bool(np.all(np.diff(self.origin) == 1)) and INSERTED not in self.origin

    def cut(self, start: int, stop: int) -> Damaged:
        return Damaged(self.data[start:stop], self.origin[start:stop], self.changed[start:stop])

    def __add__(self, other: Damaged) -> Damaged:
        return Damaged(*(np.concatenate(pair) for pair in zip(self._parts(), other._parts(), strict=True)))

    def over(self, at: int, new: bytes) -> Damaged:
        """Overwritten from `at` on; a byte that stays the same is not changed."""
        new_codes = np.frombuffer(new, dtype=np.uint8)[: max(0, len(self.data) - at)]
        data, changed = self.data.copy(), self.changed.copy()
        place = slice(at, at + len(new_codes))
        changed[place] |= data[place] != new_codes
        data[place] = new_codes
        return Damaged(data, self.origin, changed)

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.data, self.origin, self.changed


def fresh(data: bytes) -> Damaged:
    """Bytes that no seed file had."""
    codes = np.frombuffer(data, dtype=np.uint8)
    return Damaged(codes, np.full(len(codes), INSERTED), np.zeros(len(codes), dtype=bool))


def damage(file: Damaged, rng: np.random.Generator, hot: list[int], other: Damaged, grain: int = 4) -> Damaged:
    """One to four mutations: bits, bytes, numbers, cuts, repetitions, exchanges, pieces of another file.

    hot: places worth hitting, such as headers; half of the mutations begin near one. grain: lengths that keep the
    rest of the file aligned, which half of the cuts and insertions use.
    """
    for _ in range(int(rng.choice([1, 1, 1, 2, 3, 4]))):
        file = KINDS[int(rng.integers(len(KINDS)))](file, _place(file, rng, hot, grain), rng, other, grain)
    return file


def _place(file: Damaged, rng: np.random.Generator, hot: list[int], grain: int) -> int:
    size = max(1, len(file.data))
    if hot and rng.random() < 0.5:
        return int(min(size - 1, hot[int(rng.integers(len(hot)))] + rng.integers(0, 40)))
    at = int(rng.integers(size))
    return at - at % grain if rng.random() < 0.5 else at


def _length(rng: np.random.Generator, grain: int) -> int:
    size = int(2 ** rng.uniform(0, 11))
    return max(grain, size - size % grain) if rng.random() < 0.5 else size


def _bit(file: Damaged, at: int, rng: np.random.Generator, *_: object) -> Damaged:
    return file.over(at, (file.data[at : at + 1] ^ np.uint8(1 << rng.integers(8))).tobytes())


def _bytes(file: Damaged, at: int, rng: np.random.Generator, *_: object) -> Damaged:
    return file.over(at, rng.bytes(int(rng.integers(1, 9))))


def _number(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    value, width = WORDS[int(rng.integers(len(WORDS)))], int(rng.choice([1, 2, 4, 8]))
    order = "little" if rng.random() < 0.7 else "big"
    value = (1 << 8 * width) - 1 if rng.random() < 0.1 else value % (1 << 8 * width)
    return file.over(at - at % grain, value.to_bytes(width, order))


def _zeros(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    return file.over(at, bytes(_length(rng, grain)))


def _end(file: Damaged, at: int, *_: object) -> Damaged:
    return file.cut(0, at)


def _out(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    return file.cut(0, at) + file.cut(at + _length(rng, grain), len(file.data))


def _twice(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    return file.cut(0, at + _length(rng, grain)) + file.cut(at, len(file.data))


def _into(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    size = _length(rng, grain)
    return (
        file.cut(0, at) + fresh(rng.bytes(size) if rng.random() < 0.5 else bytes(size)) + file.cut(at, len(file.data))
    )


def _exchange(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    first, second = sorted((at, int(rng.integers(len(file.data) + 1))))
    size = min(_length(rng, grain), second - first)
    a, b = file.cut(first, first + size), file.cut(second, second + size)
    return file.cut(0, first) + b + file.cut(first + size, second) + a + file.cut(second + size, len(file.data))


def _graft(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    start = int(rng.integers(len(other.data) + 1))
    piece = other.cut(start, start + _length(rng, grain))
    skipped = len(piece.data) if rng.random() < 0.5 else 0  # in place of what was there, or in between
    return file.cut(0, at) + piece + file.cut(at + skipped, len(file.data))


def _join(file: Damaged, at: int, rng: np.random.Generator, other: Damaged, grain: int) -> Damaged:
    return file.cut(0, at) + other.cut(int(rng.integers(len(other.data) + 1)), len(other.data))


KINDS = (_bit, _bit, _bytes, _number, _number, _zeros, _end, _out, _twice, _into, _exchange, _graft, _join)

"""Which images are compared: LFW's pairs.txt, or a CSV of `a,b,1` for one person and `a,b,0` for two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..utils.errors import DataError
from ..utils.files import read_text
from .folders import SUFFIXES

FLAGS = {"1": True, "0": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images and whether they show one person.

    A name of LFW (`name/name_0001`) has no suffix; `find_image` finds the file. line: where the pairs file says so.
    """

    first: str
    second: str
    same: bool
    line: int


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a file, in its order, on which the ten folds depend.

    A `.csv` has `a,b,flag` lines, with or without a first line of titles; flag is 1 or 0, true or false. Any other
    file is LFW's: lines `name n m` for one person and `name n other m` for two, tabs or spaces between; its first line
    may say how many there are (`10 300`: ten folds of 300 pairs of each kind; `500`: 500 of each kind).

    Raises:
        DataError: unreadable, without a pair, a malformed line, an image paired with itself, or another number of
            pairs than the first line says; names file and line.
    """
    path = Path(path)
    lines = read_text(path, "pairs file").splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    pairs = _csv_pairs(numbered, path) if path.suffix.lower() == ".csv" else _lfw_pairs(numbered, path)
    if not pairs:
        raise DataError(f"{path}: no pair in it; a .csv has lines `a,b,1`, any other file LFW's `name 1 2`")
    alone = next((pair for pair in pairs if pair.first == pair.second), None)
    if alone is not None:
        raise DataError(f"{path} line {alone.line}: {alone.first} is paired with itself")
    return pairs


def find_image(root: Path, name: str) -> Path | None:
    """The image of that name under `root`, as it is or with one of the known suffixes; None when there is none."""
    path = root / name
    if path.is_file():
        return path
    return next((found for suffix in SUFFIXES if (found := path.with_name(path.name + suffix)).is_file()), None)


def _csv_pairs(lines: list[tuple[int, str]], path: Path) -> list[Pair]:
    pairs = []
    for row, (number, line) in enumerate(lines):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[2].lower() in FLAGS and all(fields):
            pairs.append(Pair(fields[0], fields[1], FLAGS[fields[2].lower()], number))
        elif row > 0 or len(fields) != 3:
            raise DataError(f"{path} line {number}: {line[:80]!r} is not `a,b,flag` with a flag of 1 or 0")
    return pairs


def _lfw_pairs(lines: list[tuple[int, str]], path: Path) -> list[Pair]:
    announced = None
    if lines and 1 <= len(lines[0][1].split()) <= 2 and all(field.isdecimal() for field in lines[0][1].split()):
        counts = [int(field) for field in lines[0][1].split()]
        announced = 2 * counts[0] * (counts[1] if len(counts) == 2 else 1)
        lines = lines[1:]
    pairs = [_lfw_pair(line, number, path) for number, line in lines]
    if announced is not None and len(pairs) != announced:
        raise DataError(f"{path}: its first line announces {announced} pairs, but {len(pairs)} follow")
    return pairs


def _lfw_pair(line: str, number: int, path: Path) -> Pair:
    fields = line.strip().split("\t") if "\t" in line else line.split()
    if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
        return Pair(_lfw_name(fields[0], fields[1]), _lfw_name(fields[0], fields[2]), True, number)
    if len(fields) == 4 and fields[1].isdecimal() and fields[3].isdecimal():
        return Pair(_lfw_name(fields[0], fields[1]), _lfw_name(fields[2], fields[3]), False, number)
    raise DataError(f"{path} line {number}: {line[:80]!r} is neither `name n m` nor `name n other m`")


def _lfw_name(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}"

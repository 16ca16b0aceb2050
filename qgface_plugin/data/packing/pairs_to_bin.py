"""Pair sets from a pairs file and a folder of aligned faces: which images are compared, packed into a `.bin`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ...utils.errors import ON_CORRUPT, ConfigError, DataError
from ...utils.parallel import ordered_map
from ...utils.text import fields_of, meant_path, read_csv, read_lines, whole_number
from ..bin_files import write_bin
from ..image_files import QUALITY, FaceFile, check_face, load_face
from ..sources.folder import SUFFIXES

FLAGS = {"true": 1, "false": 0}  # and whole numbers


@dataclass(frozen=True, slots=True)
class PairLine:
    """Two images and whether they show one person, as a pairs file says it.

    Attributes:
        first, second: names of the images; LFW's (`name/name_0001`) have no suffix, and `find_image` finds the file.
        same: whether they show one person.
        line: number of the line in the file.
    """

    first: str
    second: str
    same: bool
    line: int


@dataclass(frozen=True)
class PairReport:
    """What was written.

    Attributes:
        file: the `.bin`.
        pairs, same: how many pairs, and how many of them show one person.
        images: different images in them.
        resized: of those, images of another side, resized and encoded anew.
        surplus: of those, JPEGs with surplus bytes or without their end marker; their pixels are whole.
        repeated: pairs that were there before, in either order; they count twice in every figure.
        left_out: pairs left out for an image that is missing or cannot be used.
        problems: (image, reason) of those images.
    """

    file: str
    pairs: int
    same: int
    images: int
    resized: int
    surplus: int
    repeated: int
    left_out: int
    problems: list[tuple[str, str]]


def read_pairs(path: str | Path) -> list[PairLine]:
    """The pairs of a file, in its order, on which the ten folds depend.

    A `.csv` has `a,b,flag` lines, with or without a first line of titles; flag is 1 or 0, true or false. Any other
    file is LFW's: lines `name n m` for one person and `name n other m` for two, tabs or spaces between; its first line
    may say how many there are (`10 300`: ten folds of 300 pairs of each kind; `500`: 500 of each kind).

    Raises:
        DataError: unreadable, without a pair, a malformed line, an image paired with itself, or another number of
            pairs than the first line says; names file and line.
    """
    path = Path(path)
    pairs = _csv_pairs(path) if path.suffix.lower() == ".csv" else _lfw_pairs(read_lines(path, "pairs file"), path)
    if not pairs:
        raise DataError(f"{path}: no pair in it; a .csv has lines `a,b,1`, any other file LFW's `name 1 2`")
    alone = next((pair for pair in pairs if pair.first == pair.second), None)
    if alone is not None:
        raise DataError(f"{path} line {alone.line}: {alone.first} is paired with itself")
    return pairs


def find_image(root: Path, name: str) -> Path | None:
    """The image of that name under `root`, as it is or with one of the known suffixes; None when there is none.

    The suffix may be in upper case; of the name, see `utils.text.meant_path`.
    """
    suffixes = ("", *SUFFIXES, *map(str.upper, SUFFIXES), *map(str.title, SUFFIXES))
    found = (os.path.join(root, meant_path(root, name + suffix)) for suffix in suffixes)
    return next((Path(path) for path in found if os.path.isfile(path)), None)


def pack_pairs(
    pairs: Sequence[PairLine],
    root: str | Path,
    output: str | Path,
    size: int = 112,
    quality: int = QUALITY,
    on_corrupt: str = "error",
    workers: int = 2,
    progress: bool = False,
) -> PairReport:
    """Write the pairs as arcface_torch's loader reads them; images of the right side keep their bytes.

    Args:
        pairs: whose order is kept.
        root: folder that the pairs' names are relative to.
        output: the `.bin`.
        size: side of the packed images in pixels.
        quality: of the JPEGs that images of another side become, 1 to 100.
        on_corrupt: "error" refuses images that are missing or bad; "skip" leaves their pairs out, which moves the pairs
            after them to other folds.
        workers: threads.
        progress: show a progress bar.

    Raises:
        ConfigError: a quality or `on_corrupt` out of range; `output` does not end in .bin.
        DataError: images that are missing or bad, counted, the first of them named; no pair left.
    """
    if not 1 <= quality <= 100:
        raise ConfigError(f"quality is {quality}; it is a whole number from 1 to 100")
    if on_corrupt not in ON_CORRUPT:
        raise ConfigError(f"on_corrupt is {on_corrupt!r}: it must be 'error' or 'skip'")
    root, output = Path(root), Path(output)
    if output.suffix != ".bin":
        raise ConfigError(f"{output}: a pair set's name ends in .bin; what stands before it is the set's name")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the folder that the pairs' images are in")
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))

    def load(name: str) -> tuple[bytes, FaceFile] | str:
        path = find_image(root, name)
        if path is None:
            return "no such image"
        try:
            found = check_face(path, size)
            return load_face(path, size, quality), found
        except DataError as error:
            return str(error).removeprefix(f"{path}: ")

    bar = tqdm(ordered_map(load, names, workers), total=len(names), desc="reading", unit="image", disable=not progress)
    loaded = dict(zip(names, bar, strict=True))
    problems = [(name, result) for name, result in loaded.items() if isinstance(result, str)]
    bad = {name for name, _ in problems}
    kept = [pair for pair in pairs if pair.first not in bad and pair.second not in bad]
    if problems and not (on_corrupt == "skip" and kept):
        first = "".join(f"\n  {root / name}: {reason}" for name, reason in problems[:3])
        raise DataError(
            f"{len(problems)} of {len(names)} images are missing or bad, in {len(pairs) - len(kept)} of {len(pairs)} "
            f"pairs; correct them or the root, or leave those pairs out with --on-corrupt skip. The first:{first}"
        )
    images = [loaded[name][0] for pair in kept for name in (pair.first, pair.second)]
    write_bin(output, images, [pair.same for pair in kept])
    used = {name for pair in kept for name in (pair.first, pair.second)}
    return PairReport(
        file=str(output),
        pairs=len(kept),
        same=sum(pair.same for pair in kept),
        images=len(used),
        resized=sum(not loaded[name][1].fits for name in used),
        surplus=sum(loaded[name][1].surplus for name in used),
        repeated=len(kept) - len({frozenset((pair.first, pair.second)) for pair in kept}),
        left_out=len(pairs) - len(kept),
        problems=problems,
    )


def _csv_pairs(path: Path) -> list[PairLine]:
    pairs = []
    for row, (number, fields) in enumerate(read_csv(path, "pairs file")):
        flag = _flag(fields[2]) if len(fields) == 3 else None
        if flag is not None and all(fields):
            pairs.append(PairLine(fields[0], fields[1], flag, number))
        elif row > 0 or len(fields) != 3 or not _is_title(fields[2]):
            shown = ",".join(fields)[:80]
            raise DataError(f"{path} line {number}: {shown!r} is not `a,b,flag` with a flag of 1 or 0")
    return pairs


def _flag(text: str) -> bool | None:
    value = FLAGS.get(text.lower(), whole_number(text))
    return bool(value) if value in (0, 1) else None


def _is_title(text: str) -> bool:
    """Whether a first line's third field is a word, not a flag gone wrong."""
    try:
        float(text)
    except ValueError:
        return bool(text)
    return False


def _lfw_pairs(lines: list[tuple[int, str]], path: Path) -> list[PairLine]:
    announced = None
    counts = [whole_number(field) for field in fields_of(lines[0][1])] if lines else []
    if 1 <= len(counts) <= 2 and None not in counts:
        announced = 2 * math.prod(count for count in counts if count is not None)
        lines = lines[1:]
    pairs = [_lfw_pair(line, number, path) for number, line in lines]
    if announced is not None and len(pairs) != announced:
        raise DataError(f"{path}: its first line announces {announced} pairs, but {len(pairs)} follow")
    return pairs


def _lfw_pair(line: str, number: int, path: Path) -> PairLine:
    by_tabs = [field.strip() for field in line.split("\t") if field.strip()]  # then a name may hold blanks
    for fields in (by_tabs, fields_of(line)):
        numbers = [whole_number(field) for field in fields]
        if len(fields) == 3 and _count(numbers[1]) and _count(numbers[2]):
            return PairLine(_lfw_name(fields[0], numbers[1]), _lfw_name(fields[0], numbers[2]), True, number)
        if len(fields) == 4 and _count(numbers[1]) and _count(numbers[3]):
            return PairLine(_lfw_name(fields[0], numbers[1]), _lfw_name(fields[2], numbers[3]), False, number)
    raise DataError(f"{path} line {number}: {line[:80]!r} is neither `name n m` nor `name n other m`")


def _count(number: int | None) -> bool:
    return number is not None and number >= 0


def _lfw_name(person: str, number: int | None) -> str:
    return f"{person}/{person}_{number:04d}"

"""Files that give five landmarks per image: x and y in pixels of left eye, right eye, nose tip, left and right mouth
corner, where left is the image's left.

.csv   `path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5`, with or without a line of titles.
.json  an object {"path": [x1, y1, ..., y5]}, or with [[x1, y1], ..., [x5, y5]] for each path.
other  text as IJB's: path and ten numbers with spaces between; a number after them, a detector's score, is not used.

A photograph in which no face was found may be listed all the same, with empty fields, nan or null instead of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ...utils.errors import DataError
from ...utils.text import LARGEST, fields_of, finite_number, read_csv, read_json, read_lines
from ..image_files import SUFFIXES
from .landmark_checks import check_landmarks, read_in_order

LACKING = ("", "nan", "null", "none", "na", "n/a")
NONE = np.full((5, 2), np.nan, dtype=np.float32)
NONE.setflags(write=False)


def read_landmarks(path: str | Path, order: str = "xy") -> dict[str, np.ndarray]:
    """Path of an image, as the file has it -> float32 (5, 2), all NaN for a photograph listed without landmarks.

    Args:
        path: the file.
        order: of the ten numbers in each row, a name of `landmark_checks.ORDERS`.

    Raises:
        DataError: unreadable, without any landmarks, a malformed row, or a path given twice; names file and row.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    rows = _json_rows(path) if suffix == ".json" else _text_rows(path, commas=suffix == ".csv")
    landmarks: dict[str, np.ndarray] = {}
    for where, name, values in rows:
        name = PurePosixPath(name).as_posix()
        if name in landmarks:
            raise DataError(f"{where}: {name} is given twice; one face per image is aligned, so give each path once")
        landmarks[name] = NONE if values is None else read_in_order(values, order)
    if all(points is NONE for points in landmarks.values()):
        listed = f": none of its {len(landmarks)} photographs has any" if landmarks else ""
        raise DataError(f"{path}: no landmarks in it{listed}")
    return landmarks


def check_order(landmarks: dict[str, np.ndarray], path: str | Path) -> None:
    """Refuse a file most of whose landmarks are no face's, as in another order; see `landmark_checks`.

    Args:
        landmarks: as `read_landmarks` returns them.
        path: the file, for the message.

    Raises:
        DataError: says which order the file seems to have.
    """
    given = {name: points for name, points in landmarks.items() if points is not NONE}
    check_landmarks(np.stack(list(given.values())), list(given), str(path), "--landmark-order")


def _text_rows(path: Path, commas: bool) -> Iterator[tuple[str, str, list[float] | None]]:
    lines: Iterable[tuple[int, list[str]]]
    if commas:
        lines = read_csv(path, "landmarks")
    else:
        lines = ((number, _from_the_right(line)) for number, line in read_lines(path, "landmarks"))
    for row, (number, fields) in enumerate(lines):
        where = f"{path} line {number}"
        if _lacks_all(fields):
            yield where, fields[0], None
            continue
        values = [finite_number(field) for field in fields[1:11]]
        if row == 0 and commas and len(fields) >= 11 and not any(value is not None for value in values):
            continue  # titles
        surplus = len(fields) > (11 if commas else 12)
        numbers = [value for value in values if value is not None]
        if len(values) != 10 or len(numbers) != 10 or surplus:
            raise DataError(f"{where}: not a path and ten numbers: {' '.join(fields)[:80]!r}")
        yield where, fields[0], numbers


def _lacks_all(fields: Sequence[str]) -> bool:
    """Whether a row names a photograph and has nothing, or words for nothing, in the places of the numbers."""
    rest = fields[1:]
    if not rest:
        return fields[0].lower().endswith(SUFFIXES)
    return bool(fields[0]) and len(rest) <= 11 and all(field.strip().lower() in LACKING for field in rest[:10])


def _from_the_right(line: str) -> list[str]:
    """Fields of a line whose path may hold spaces: ten numbers, or eleven with the score, stand at its end."""
    fields = fields_of(line)
    numbers = 0
    while numbers < min(11, len(fields) - 1) and _stands_for_number(fields[-1 - numbers]):
        numbers += 1
    head = len(fields) - numbers
    return [" ".join(fields[:head]), *fields[head:]]


def _json_rows(path: Path) -> Iterator[tuple[str, str, list[float] | None]]:
    content = read_json(path, "landmarks")
    if not isinstance(content, dict):
        raise DataError(f'{path}: not an object {{"path": [x1, y1, ..., y5], ...}} but {type(content).__name__}')
    for name, points in content.items():
        flat = (
            [value for point in points for value in (point if isinstance(point, list) else [point])]
            if (isinstance(points, list))
            else []
        )
        if points is None or (isinstance(points, (list, dict, str)) and not points) or _are_none(flat):
            yield f"{path} {name!r}", name, None
            continue
        if len(flat) != 10 or not all(_is_number(value) for value in flat):
            raise DataError(f"{path} {name!r}: not five points [x, y] or ten numbers: {str(points)[:80]}")
        yield f"{path} {name!r}", name, flat


def _stands_for_number(field: str) -> bool:
    return finite_number(field) is not None or field.lower() in LACKING


def _are_none(values: Sequence[object]) -> bool:
    """Whether there are some, all null or NaN."""
    return bool(values) and all(value is None or (isinstance(value, float) and math.isnan(value)) for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST

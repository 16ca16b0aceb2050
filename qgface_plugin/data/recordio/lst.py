"""Lists of images, `.lst`, of both kinds, InsightFace's and im2rec's: one image per line, tabs between the fields.

InsightFace: `aligned TAB path TAB label`, where aligned is 1 or 0; fields after them (box, landmarks) are not used.
im2rec:      `key TAB label [TAB more labels] TAB path`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...utils.errors import DataError
from ...utils.text import finite_number, read_lines, whole_number
from .labels import LABEL_LIMIT


@dataclass(frozen=True, slots=True)
class ListLine:
    """One line of a list.

    Attributes:
        path: of the image, as the line has it.
        label: identity, a whole number in [0, 2**24).
        key: im2rec's key; None in InsightFace's lists.
        more: further labels of an im2rec line.
        aligned: False where an InsightFace line says 0.
    """

    path: str
    label: int
    key: int | None = None
    more: tuple[float, ...] = ()
    aligned: bool = True


def read_list(path: str | Path) -> list[ListLine]:
    """The lines of a list of either kind; the first line tells which.

    Raises:
        DataError: unreadable, without a line, or a malformed line; names file and line.
    """
    path = Path(path)
    lines = [(number, line.split("\t")) for number, line in read_lines(path, "list")]
    if not lines:
        raise DataError(f"{path}: the list is empty")
    read = _im2rec_line if len(lines[0][1]) >= 3 and finite_number(lines[0][1][1]) is not None else _insightface_line
    return [read(fields, f"{path} line {number}") for number, fields in lines]


def list_line(path: str, label: int) -> str:
    """A line as InsightFace writes it."""
    return f"1\t{path}\t{label}\n"


def im2rec_line(key: int, labels: tuple[float, ...], path: str) -> str:
    """A line as im2rec writes it."""
    return "\t".join([str(key), *(f"{label:f}" for label in labels), path]) + "\n"


def _insightface_line(fields: list[str], where: str) -> ListLine:
    aligned = whole_number(fields[0])
    if len(fields) < 3 or aligned not in (0, 1):
        raise DataError(
            f"{where}: neither `1 TAB path TAB label` (InsightFace) nor `key TAB label TAB path` (im2rec): {fields}"
        )
    return ListLine(fields[1], _label(fields[2], where), aligned=aligned == 1)


def _im2rec_line(fields: list[str], where: str) -> ListLine:
    numbers = [number for field in fields[1:-1] if (number := finite_number(field)) is not None]
    key = whole_number(fields[0])
    if len(fields) < 3 or key is None or key < 0 or len(numbers) < len(fields) - 2:
        raise DataError(f"{where}: not `key TAB label TAB path` (im2rec), which the list's first line is: {fields}")
    return ListLine(fields[-1], _label(fields[1], where), key, tuple(numbers[1:]))


def _label(text: str, where: str) -> int:
    value = finite_number(text)
    if value is None or not value.is_integer() or not 0 <= value < LABEL_LIMIT:
        raise DataError(f"{where}: label {text!r} is not a whole number in [0, {LABEL_LIMIT})")
    return int(value)

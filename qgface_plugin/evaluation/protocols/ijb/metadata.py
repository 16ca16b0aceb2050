"""Metadata of IJB-B and IJB-C: images and pairs from the text files of `meta/`, as insightface's tools read them.

`integers` and `named_numbers` read columns of numbers at the speed of a parser that sees no lines, and name the line of
what does not fit.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from ....utils.errors import ConfigError, DataError
from ....utils.text import LARGEST, line_blocks, meant_path, plain, regular_table

SUBSETS = ("IJBB", "IJBC")
NUMBER = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE)
INTEGER = re.compile(rb"[0-9]{1,18}(?:\.0*)?")
POINT_ZERO = re.compile(rb"\.0*(?=[ \n]|$)")


@dataclass(frozen=True)
class IjbImages:
    """The N images of a set, in the order of the files. An image may stand in it several times.

    Attributes:
        folder: with `meta/` and `loose_crop/`.
        subset: "IJBB" or "IJBC".
        names: file names within loose_crop/.
        landmarks: (N, 5, 2) float32, pixels of the loose crop: eyes, nose, corners of the mouth.
        detector: (N,) float32, the face detector's score.
        templates: (N,) int64, the template that the image belongs to.
        medias: (N,) int64, the photograph or video that it comes from.
    """

    folder: Path
    subset: str
    names: list[str]
    landmarks: np.ndarray
    detector: np.ndarray
    templates: np.ndarray
    medias: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class IjbPairs:
    """The 1:1 protocol: P pairs of templates.

    Attributes:
        first: (P,) int64 template ids.
        second: (P,) int64 template ids.
        same: (P,) bool, True for a genuine pair.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray

    def __len__(self) -> int:
        return len(self.same)


def find_folder(data: str | Path, subset: str) -> Path:
    """The folder with `meta/` and `loose_crop/`: `data` itself, or its sub-folder named as the subset.

    Raises:
        ConfigError: another subset than IJBB or IJBC.
        DataError: there is no such folder.
    """
    if subset not in SUBSETS:
        raise ConfigError(f"subset is {subset!r}: it must be one of {', '.join(SUBSETS)}")
    data = Path(data)
    for folder in (data, data / subset):
        if (folder / "meta" / f"{subset.lower()}_face_tid_mid.txt").is_file():
            return folder
    raise DataError(
        f"{data}: neither it nor {data / subset} has meta/{subset.lower()}_face_tid_mid.txt: give the folder that "
        "holds IJB's meta/ and loose_crop/, and its subset"
    )


def read_images(folder: Path, subset: str) -> IjbImages:
    """Images, landmarks, detector scores, templates and medias of the set in `folder`.

    Reads `<subset>_name_5pts_score.txt` (name, five landmarks x y, score) and `<subset>_face_tid_mid.txt` (name,
    template, media), which have the same images in the same order.

    Raises:
        DataError: a file or line that does not fit; names it.
    """
    meta, prefix = folder / "meta", subset.lower()
    members_file, points_file = meta / f"{prefix}_face_tid_mid.txt", meta / f"{prefix}_name_5pts_score.txt"
    members, ids = named_numbers(members_file, 2)
    names, numbers = named_numbers(points_file, 11)
    if len(members) != len(names):
        raise DataError(f"{members_file} has {len(members)} lines and {points_file} {len(names)}: one per image")
    for line, (member, name) in enumerate(zip(members, names, strict=True), start=1):
        if member != name:
            raise DataError(f"line {line} is {member!r} in {members_file} and {name!r} in {points_file}")
    for path, values in ((members_file, ids), (points_file, numbers)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise DataError(f"{path}: {len(bad)} lines have a number that is not finite, first line {bad[0] + 1}")
        bad = np.flatnonzero((np.abs(values) > LARGEST).any(axis=1))
        if len(bad):
            raise DataError(f"{path}: line {bad[0] + 1} has a number beyond {LARGEST}, which nothing here can mean")
    fractions = np.flatnonzero((ids != np.floor(ids)).any(axis=1))
    if len(fractions):
        raise DataError(f"{members_file}: line {fractions[0] + 1}: template and media are whole numbers")
    if any("\\" in name for name in names):
        names = [meant_path(folder / "loose_crop", name) for name in names]
    return IjbImages(
        folder=folder,
        subset=subset,
        names=names,
        landmarks=numbers[:, :10].astype(np.float32).reshape(-1, 5, 2),
        detector=numbers[:, 10].astype(np.float32),
        templates=ids[:, 0].astype(np.int64),
        medias=ids[:, 1].astype(np.int64),
    )


def read_pairs(folder: Path, subset: str) -> IjbPairs:
    """The pairs of `<subset>_template_pair_label.txt`: two template ids and 1 (same person) or 0.

    Raises:
        DataError: a line that does not fit; names it.
    """
    path = folder / "meta" / f"{subset.lower()}_template_pair_label.txt"
    first, second, label = integers(path, 3).T
    same = label == 1
    odd = np.flatnonzero(~same & (label != 0))
    if len(odd):
        raise DataError(f"{path}: line {odd[0] + 1} has the label {label[odd[0]]}: it must be 0 or 1")
    return IjbPairs(first, second, same)


def integers(path: Path, columns: int) -> np.ndarray:
    """The integers of a file with `columns` of them per line, separated by blanks or tabs: int64 (lines, columns).

    Raises:
        DataError: the file cannot be read, or a line does not fit; names it.
    """
    try:
        lines = 1 + sum(text.count(b"\n") for text in line_blocks(path, "list of integers"))
        values = np.empty((columns, lines), dtype=np.int64)  # each column is a whole of its own
        rows, line, gap = 0, 1, 0  # gap: a blank line, which nothing may follow
        for text in line_blocks(path, "list of integers"):
            if body := text.rstrip():
                if gap:
                    _refuse(path, b"", columns, names=False, first=gap)
                table = regular_table(body, columns)
                if table is None:
                    table = regular_table(POINT_ZERO.sub(b"", _with_single_blanks(body)), columns)
                if table is None:
                    _refuse(path, body, columns, names=False, first=line)
                if rows + len(table) > lines:
                    raise DataError(f"{path}: the file is being written while it is read; wait until it is complete")
                values[:, rows : rows + len(table)] = table.T
                rows += len(table)
            if text.count(b"\n", len(body)) > bool(body):
                gap = gap or line + body.count(b"\n") + bool(body)
            line += text.count(b"\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; IJB's meta folder has this file") from error
    if rows == 0:
        raise DataError(f"{path}: the file is empty")
    return values[:, :rows].T


def named_numbers(path: Path, columns: int) -> tuple[list[str], np.ndarray]:
    """Names and numbers of a file with a name and `columns` numbers per line, separated by blanks or tabs.

    Returns:
        The names, and float64 (lines, columns).

    Raises:
        DataError: the file cannot be read, or a line does not fit; names it.
    """
    try:
        text = plain(path.read_bytes(), path, "list of images").rstrip()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; IJB's meta folder has this file") from error
    if not text:
        raise DataError(f"{path}: the file is empty")
    names, rest, well = [], [], b"\0" not in text
    for line in _with_single_blanks(text).split(b"\n"):
        name, _, numbers = line.partition(b" ")
        names.append(name)
        rest.append(numbers)
        well &= numbers.count(b" ") == columns - 1
    values = _numbers(b"\n".join(rest))
    # Each field is one number at least, or nothing that the parser reads: then as many as there should be are one each.
    if values is None or not well or values.size != columns * len(names):
        _refuse(path, text, columns, names=True)
    return [name.decode("utf-8", "surrogateescape") for name in names], values.reshape(-1, columns)


def _with_single_blanks(text: bytes) -> bytes:
    """The text with one blank where tabs or several blanks stand, none at the ends of lines."""
    if b"\t" in text or b"  " in text or b" \n" in text or b"\n " in text or text[:1] == b" ":
        text = re.sub(rb"[ \t]+", b" ", text).replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")
    return text


def _numbers(text: bytes) -> np.ndarray | None:
    """All numbers in `text`, or None where something else stands in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _refuse(path: Path, text: bytes, columns: int, names: bool, first: int = 1) -> NoReturn:
    """DataError for the first line of a text that lacks what it should have; `first` is its first line's number."""
    kind = f"a name and {columns} numbers" if names else f"{columns} integers from 0 on"
    lines = list(enumerate(text.split(b"\n"), start=first))
    number, line = next(((number, line) for number, line in lines if not _fits(line, columns, names)), lines[0])
    shown = line[:80].decode("utf-8", "replace")
    raise DataError(f"{path}: line {number} is {shown!r}: it should be {kind}, separated by blanks or tabs")


def _fits(line: bytes, columns: int, names: bool) -> bool:
    fields = line.split()
    if names:
        return len(fields) == columns + 1 and b"\0" not in line and all(map(NUMBER.fullmatch, fields[1:]))
    return len(fields) == columns and all(map(INTEGER.fullmatch, fields))

"""Metadata of IJB-B and IJB-C: images and pairs from the text files of `meta/`, as insightface's tools read them.

`integers` and `named_numbers` read columns of numbers at the speed of a parser that sees no lines, and name the line of
what does not fit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....utils.errors import ConfigError, DataError

SUBSETS = ("IJBB", "IJBC")


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
    fractions = np.flatnonzero((ids != np.floor(ids)).any(axis=1))
    if len(fractions):
        raise DataError(f"{members_file}: line {fractions[0] + 1}: template and media are whole numbers")
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
    first, second, label = np.ascontiguousarray(integers(path, 3).T)
    same = label == 1
    odd = np.flatnonzero(~same & (label != 0))
    if len(odd):
        raise DataError(f"{path}: line {odd[0] + 1} has the label {label[odd[0]]}: it must be 0 or 1")
    return IjbPairs(first, second, same)


def integers(path: Path, columns: int) -> np.ndarray:
    """The integers of a file with `columns` of them per line, separated by blanks: int64 (lines, columns).

    Raises:
        DataError: the file cannot be read, or a line does not fit; names it.
    """
    text = _read(path)
    values = _numbers(text, np.int64)
    # Blanks and line ends are one to the parser, so what it read says nothing about lines.
    if values is None or values.size != columns * _lines(text) or not _single_blanks(text, columns - 1):
        _check_lines(path, text, columns, names=False)
    assert values is not None  # else a line was refused
    return values.reshape(-1, columns)


def named_numbers(path: Path, columns: int) -> tuple[list[str], np.ndarray]:
    """Names and numbers of a file with a name and `columns` numbers per line, separated by blanks.

    Returns:
        The names, and float64 (lines, columns).

    Raises:
        DataError: the file cannot be read, or a line does not fit; names it.
    """
    text = _read(path)
    lines = text.splitlines()
    names, rest, well = [], [], True
    for line in lines:
        name, _, numbers = line.strip().partition(b" ")
        names.append(name)
        rest.append(numbers)
        well &= numbers.count(b" ") == columns - 1
    values = _numbers(b"\n".join(rest), np.float64)
    if values is None or not well:
        _check_lines(path, text, columns, names=True)
    assert values is not None  # else a line was refused
    return [name.decode("utf-8", "surrogateescape") for name in names], values.reshape(-1, columns)


def _read(path: Path) -> bytes:
    try:
        text = path.read_bytes().rstrip()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; IJB's meta folder has this file") from error
    if not text:
        raise DataError(f"{path}: the file is empty")
    return text


def _lines(text: bytes) -> int:
    return text.count(b"\n") + 1


def _numbers(text: bytes, dtype: type) -> np.ndarray | None:
    """All numbers in `text`, or None where something else stands in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=dtype, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _single_blanks(text: bytes, blanks: int) -> bool:
    """Whether each line has that many blanks."""
    characters = np.frombuffer(text, dtype=np.uint8)
    ends, at = np.flatnonzero(characters == ord("\n")), np.flatnonzero(characters == ord(" "))
    if len(at) != blanks * (len(ends) + 1):
        return False
    by_line = at.reshape(-1, blanks)
    return bool((by_line[:-1, -1] < ends).all() and (by_line[1:, 0] > ends).all())


def _check_lines(path: Path, text: bytes, columns: int, names: bool) -> None:
    """DataError for the first line that lacks what it should have; nothing when only its blanks are unusual."""
    kind = f"a name and {columns} numbers" if names else f"{columns} integers"
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        values = _numbers(b" ".join(parts[names:]), np.float64 if names else np.int64) if len(parts) > names else None
        if len(parts) != columns + names or values is None or values.size != columns:
            shown = line[:80].decode("utf-8", "replace")
            raise DataError(f"{path}: line {number} is {shown!r}: it should be {kind}, separated by blanks")

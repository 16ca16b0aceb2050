"""Faces of a record set, to be packed again: a part of it, with the bytes, the names and the order that it has."""

from __future__ import annotations

from pathlib import Path

from ....utils.errors import DataError
from ...recordio.labels import UNREADABLE
from ...recordio.lst import read_list
from ...sources.records import FaceRecords
from ..faces import Face, FaceList


class RecordImages:
    """The images of record files, by their index."""

    def __init__(self, records: FaceRecords) -> None:
        self._records = records

    def read(self, at: tuple[int, int]) -> bytes:
        """The image of index `at[0]`. DataError as `FaceRecords.read` has it."""
        return bytes(self._records.read(at[0])[0])


def record_faces(source: str | Path, on_corrupt: str = "error") -> FaceList:
    """The faces of a folder with `train.rec`, or of a `.rec` file.

    An identity is called as `identities.tsv` says, else by its label; labels keep their order. An image is called as in
    `train.lst` where that has a line for each of them, else by its number.

    Args:
        source: the folder or file.
        on_corrupt: whether records that cannot be read are an error or are left out.

    Raises:
        DataError: see `FaceRecords`.
    """
    records = FaceRecords(source, on_corrupt=on_corrupt)
    labels, names, found = records.labels().tolist(), records.names(), FaceList([])
    listed = _listed(Path(source), labels)
    store = RecordImages(records)
    for index, label in enumerate(labels):
        where = records.where(index)
        if label == UNREADABLE:
            found.problems.append((where, "the record cannot be read"))
            continue
        name = listed[index] if listed else f"{Path(source).stem}/{index + 1}"
        found.faces.append(Face(where, name, (label, names.get(label, str(label))), store=store, at=(index, 0)))
    return found


def _listed(source: Path, labels: list[int]) -> list[str] | None:
    """The names in the `train.lst` beside the records, where its lines have the labels of the images."""
    path = (source if source.is_dir() else source.parent) / "train.lst"
    if not path.is_file():
        return None
    try:
        lines = read_list(path)
    except DataError:  # training does not need the list either
        return None
    if all(line.key is not None for line in lines):
        lines = sorted(lines, key=lambda line: line.key or 0)
    return [line.path for line in lines] if [line.label for line in lines] == labels else None

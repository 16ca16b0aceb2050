"""InsightFace's header and identity range records, held against the labels of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..utils.errors import DataError
from .recordio import RecordReader, unpack
from .records import EXACT_FLOAT32, FaceRecords


def layout_of(path: Path) -> tuple[str, list[str]]:
    """The layout of a record file in words, and where its range records contradict its images.

    Range records are optional: nothing that this project or arcface_torch trains with reads them.

    Raises:
        DataError: see `RecordReader`.
    """
    reader = RecordReader(path)
    if int(reader.keys[0]) != 0:
        return "images only", []
    header, payload = unpack(reader.read(0), reader.where(0))
    if header.flag != 2 or len(payload):
        return "images only", []
    first, last = (int(value) for value in header.label)
    keys = reader.keys[np.searchsorted(reader.keys, first) : np.searchsorted(reader.keys, last)].tolist()
    layout = f"InsightFace: header [{first}, {last}], {len(keys)} of {last - first} range records"
    if last > EXACT_FLOAT32:
        return f"{layout}, not compared: such numbers are not exact in float32", []
    return layout, _contradictions(reader, keys, FaceRecords(path, on_corrupt="skip").labels(), last - first)


def _contradictions(reader: RecordReader, keys: list[int], labels: np.ndarray, identities: int) -> list[str]:
    """One line for each kind of contradiction between range records and labels; image i has the key i + 1."""
    problems, wrong, covered = [], [], 0
    for key in keys:
        try:
            header, payload = unpack(reader.read(key), reader.where(key))
            if header.flag != 2 or len(payload):
                raise DataError("no two labels")
            start, stop = (int(value) - 1 for value in header.label)
        except DataError:
            wrong.append(key)
            continue
        inside = labels[max(start, 0) : stop]
        covered += len(inside)
        if not 0 <= start < stop <= len(labels) or len(np.unique(inside[inside >= 0])) > 1:
            wrong.append(key)
    if wrong:
        problems.append(f"{len(wrong)} range records hold no one identity, the first {reader.where(wrong[0])}")
    elif len(keys) == identities and covered != len(labels):
        problems.append(f"{reader.path}: the range records cover {covered} of {len(labels)} images")
    return problems

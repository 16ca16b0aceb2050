"""What InsightFace's identity records say about labels, so that a large file can be checked without reading it all.

An identity's record has no image; its two labels are the first key of that identity and the one after its last. In
the usual file the ranges follow each other from key 1 to the last image, and an image's label is its range's number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...utils.errors import DataError
from .format import HEADER, MAGIC, PART, unpack
from .labels import UnreadableError, read_face
from .reader import RecordReader

EXACT_FLOAT32 = 1 << 24  # whole numbers above this may be rounded in a float32 label
SAMPLES = 32  # identities whose first image is looked at
RECORD = HEADER.size + 8  # bytes of an identity's record, none of them an image's


def ranges_hold(reader: RecordReader, images: int, identities: int) -> bool:
    """Whether the identity records announce the labels 0 to identities - 1 for the keys 1 to `images`, each once.

    All identity records are read, and the labels of SAMPLES images compared; an image that cannot be read is passed
    over. False for anything unusual, which says nothing against the file: then every label has to be read.

    images, identities: what the file's header record announces.
    """
    first = int(np.searchsorted(reader.keys, images + 1))
    rows = slice(first, first + identities)
    keys, offsets = reader.keys[rows], reader.offsets[rows]
    at = offsets // 4
    if len(keys) != identities or keys[-1] - keys[0] != identities - 1 or keys[0] != images + 1:
        return False
    if np.any(offsets + PART.size + RECORD > reader.size):
        return False
    words = reader.words[at[:, None] + np.arange(10)]  # (identities, 10): a part's head, header, two labels
    if not np.all(words[:, :3] == np.array([MAGIC, RECORD, 2])):  # magic, whole and of this length, two labels
        return False
    begin, end = words[:, 8:].copy().view("<f4").T
    if begin[0] != 1 or end[-1] != np.float32(images + 1) or np.any(begin[1:] != end[:-1]) or np.any(begin >= end):
        return False
    return all(
        _label_of(reader, int(begin[i])) in (i, None) for i in np.linspace(0, identities - 1, SAMPLES, dtype=np.int64)
    )


def _label_of(reader: RecordReader, key: int) -> int | None:
    try:
        return read_face(reader, key)[1]
    except UnreadableError:
        return None


# --- InsightFace's header and identity range records, held against the labels of the images ---------------------------


def layout_of(path: Path, labels: Callable[[], np.ndarray]) -> tuple[str, list[str]]:
    """The layout of a record file in words, and where its range records contradict its images.

    labels: gives the label of every image, asked for only where there are range records to compare.

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
    return layout, _contradictions(reader, keys, labels(), last - first)


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


def image_keys(keys: np.ndarray, limit: int, holds_image: Callable[[int], bool], where: str) -> np.ndarray:
    """Keys of the images, 1 to limit - 1, of a file whose header record says `limit`.

    A header holds float32, so a limit above 2**24 may be rounded up by a few; keys there without an image are no
    images. DataError when a key is missing from the index.
    """
    images = keys[np.searchsorted(keys, 1) : np.searchsorted(keys, limit)]
    if limit > EXACT_FLOAT32:
        lowest = limit - int(np.spacing(np.float32(limit)))
        while len(images) and images[-1] >= lowest and not holds_image(int(images[-1])):
            images = images[:-1]
        limit = int(images[-1]) + 1 if len(images) and images[-1] >= lowest - 1 else limit
    if len(images) != limit - 1:
        expected = np.arange(1, len(images) + 1)
        missing = np.append(expected[images != expected], len(images) + 1)[0]
        raise DataError(
            f"{where}: the header announces {limit - 1} images, but the index has {len(images)} of them and lacks "
            f"key {missing}; delete the .idx to have it rebuilt"
        )
    return images

"""What InsightFace's identity records say about labels, so that a large file can be checked without reading it all.

An identity's record has no image; its two labels are the first key of that identity and the one after its last. In
the usual file the ranges follow each other from key 1 to the last image, and an image's label is its range's number.
"""

from __future__ import annotations

import numpy as np

from .record_format import HEADER, MAGIC, PART
from .record_labels import UnreadableError, read_face
from .recordio import RecordReader

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

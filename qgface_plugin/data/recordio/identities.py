"""InsightFace's layout of a record file: a header record, images, and a record for each identity.

The header record, key 0, holds no image but two labels, [N + 1, N + 1 + identities]. Images are the keys 1 to N. The
keys from N + 1 on are the identities' records: no image either, but the first key of an identity's images and the one
after its last. In the usual file these ranges follow each other from key 1 to N, and an image's label is its range's
number. A file without a header record, such as im2rec's, holds nothing but images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...utils.errors import DataError
from .format import HEADER, MAGIC, PART, Header, pack, unpack
from .labels import UnreadableError, read_face
from .reader import RecordReader
from .writer import RecordWriter

EXACT_FLOAT32 = 1 << 24  # whole numbers above this may be rounded in a float32 label
SAMPLES = 32  # identities whose first image is looked at
RECORD = HEADER.size + 8  # bytes of an identity's record, none of them an image's


class Announced(NamedTuple):
    """What a header record says.

    Attributes:
        first, last: N + 1 and N + 1 + identities: the identities' records are the keys from `first` to `last` - 1.
    """

    first: int
    last: int

    @property
    def identities(self) -> int:
        """How many there are."""
        return self.last - self.first


def read_header(reader: RecordReader) -> Announced | None:
    """What the header record says; None for a file that has none.

    Raises:
        DataError: a header record whose labels cannot be [N + 1, N + 1 + identities]; names file, key and offset.
    """
    if int(reader.keys[0]) != 0:
        return None
    labels = _two_labels(reader, 0)
    if labels is None:
        return None
    first, last = labels
    if not (first.is_integer() and last.is_integer() and 2 <= first < last):
        raise DataError(f"{reader.where(0)}: header label [{first}, {last}] is not [N + 1, N + 1 + identities]")
    return Announced(int(first), int(last))


def write_faces(writer: RecordWriter, labels: Sequence[int] | np.ndarray, images: Iterable[tuple[int, bytes]]) -> None:
    """Write all records of a file in this layout.

    Args:
        writer: of a file that has no record yet.
        labels: of the N images, ascending; image i has the key i + 1.
        images: (i, encoded image) of each image, in the order in which the file is to hold them.
    """
    starts = np.flatnonzero(np.diff(np.asarray(labels), prepend=-1)).tolist()
    beyond = len(labels) + 1
    writer.write(0, pack(Header(2, [beyond, beyond + len(starts)], 0, 0), b""))
    for index, encoded in images:
        writer.write(index + 1, pack(Header(0, float(labels[index]), index + 1, 0), encoded))
    for key, start, end in zip(range(beyond, beyond + len(starts)), starts, [*starts[1:], len(labels)], strict=True):
        writer.write(key, pack(Header(2, [start + 1, end + 1], key, 0), b""))


def image_keys(keys: np.ndarray, limit: int, holds_image: Callable[[int], bool], where: str) -> np.ndarray:
    """Keys of the images, 1 to limit - 1, of a file whose header record says `limit`.

    A header holds float32, so a limit above 2**24 may be rounded up by a few; keys there without an image are no
    images.

    Args:
        keys: all keys of the file, ascending.
        limit: N + 1, where the identities' records begin.
        holds_image: whether the record of a key does.
        where: how messages name the header record.

    Raises:
        DataError: a key that is missing from the index, or an image where the identities' records should begin.
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
    row = int(np.searchsorted(keys, limit))
    if row < len(keys) and keys[row] == limit and holds_image(limit):
        raise DataError(f"{where}: by the header, images end at key {limit - 1}, but key {limit} holds one")
    return images


def holds_image(reader: RecordReader, key: int) -> bool:
    """Whether anything follows a record's header.

    Raises:
        DataError: see `RecordReader.read`.
    """
    return len(unpack(reader.read(key), reader.where(key))[1]) > 0


def ranges_hold(reader: RecordReader, images: int, identities: int) -> bool:
    """Whether the identity records announce the labels 0 to identities - 1 for the keys 1 to `images`, each once.

    All identity records are read, and the labels of SAMPLES images compared; an image that cannot be read is passed
    over.

    Args:
        reader: of the file.
        images, identities: what its header record announces.

    Returns:
        False for anything unusual, which says nothing against the file: then every label has to be read.
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


def layout_of(path: Path, labels: Callable[[], np.ndarray]) -> tuple[str, list[str]]:
    """The layout of a record file in words, and where its range records contradict its images.

    Range records are optional: nothing that this project or arcface_torch trains with reads them.

    Args:
        path: the `.rec` file.
        labels: gives the label of every image, asked for only where there are range records to compare.

    Raises:
        DataError: see `RecordReader`.
    """
    reader = RecordReader(path)
    announced = read_header(reader)
    if announced is None:
        return "images only", []
    first, last = announced
    keys = reader.keys[np.searchsorted(reader.keys, first) : np.searchsorted(reader.keys, last)].tolist()
    layout = f"InsightFace: header [{first}, {last}], {len(keys)} of {announced.identities} range records"
    if last > EXACT_FLOAT32:
        return f"{layout}, not compared: such numbers are not exact in float32", []
    return layout, _contradictions(reader, keys, labels(), announced.identities)


def _contradictions(reader: RecordReader, keys: list[int], labels: np.ndarray, identities: int) -> list[str]:
    """One line for each kind of contradiction between range records and labels; image i has the key i + 1."""
    problems, wrong, covered = [], [], 0
    for key in keys:
        try:
            limits = _two_labels(reader, key)
        except DataError:
            limits = None
        if limits is None:
            wrong.append(key)
            continue
        start, stop = (int(value) - 1 for value in limits)
        inside = labels[max(start, 0) : stop]
        covered += len(inside)
        if not 0 <= start < stop <= len(labels) or len(np.unique(inside[inside >= 0])) > 1:
            wrong.append(key)
    if wrong:
        problems.append(f"{len(wrong)} range records hold no one identity, the first {reader.where(wrong[0])}")
    elif len(keys) == identities and covered != len(labels):
        problems.append(f"{reader.path}: the range records cover {covered} of {len(labels)} images")
    return problems


def _two_labels(reader: RecordReader, key: int) -> tuple[float, float] | None:
    """The labels of a record that holds two and no image; None for any other record. DataError as `unpack`."""
    header, payload = unpack(reader.read(key), reader.where(key))
    if header.flag != 2 or len(payload):
        return None
    first, second = np.ravel(header.label).tolist()
    return first, second

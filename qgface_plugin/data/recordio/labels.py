"""Labels: image and label of one record, and the labels of many by whole-array reads of their headers only."""

from __future__ import annotations

import numpy as np

from ...utils.errors import CutError, DataError
from ..images import JPEG_SIGNATURE, PNG_SIGNATURE, is_image
from .format import HEADER, MAGIC, MAX_LENGTH, PART, WHOLE, unpack
from .reader import RecordReader

UNREADABLE = -1
JPEG_WORD = int.from_bytes(JPEG_SIGNATURE, "little")
PNG_WORD = int.from_bytes(PNG_SIGNATURE[:4], "little")
BLOCK = 1 << 15  # records at a time: every one of them brings a page of the file into memory
LABEL_LIMIT = 1 << 24  # labels are float32: from here on two identities could share one


class UnreadableError(DataError):
    """A record without a face in it: damaged, cut short, or with neither JPEG nor PNG after its header."""


def read_face(reader: RecordReader, key: int) -> tuple[memoryview, int]:
    """Encoded image, without a copy, and label of one record.

    Raises:
        UnreadableError: a DataError; see there.
        DataError: a label that is not a whole number in [0, 2**24). Both name file, key and offset.
        CutError: a DataError; see there.
    """
    where = reader.where(key)
    try:
        header, encoded = unpack(reader.read(key), where)
    except CutError:
        raise
    except DataError as error:
        raise UnreadableError(str(error)) from None
    if not is_image(encoded):
        raise UnreadableError(f"{where}: the record holds no JPEG or PNG; {len(encoded)} bytes follow its header")
    return encoded, _label(float(np.ravel(header.label)[0]), where)


def _label(value: float, where: str) -> int:
    if not (0 <= value < LABEL_LIMIT and float(value).is_integer()):
        raise DataError(f"{where}: label {value} is not a whole number in [0, {LABEL_LIMIT})")
    return int(value)


def scan_labels(reader: RecordReader, keys: np.ndarray, skip_unreadable: bool) -> np.ndarray:
    """The labels of many records: each header's scalar, or the first of its labels.

    Args:
        reader: of the file.
        keys: of the records, all in the index.
        skip_unreadable: give `UNREADABLE` for a record that is damaged or holds nothing but its header.

    Returns:
        int64 (len(keys),).

    Raises:
        DataError: a label that is not a whole number in [0, 2**24); unless they are skipped, a record without a face.
    """
    labels = np.empty(len(keys), dtype=np.int64)
    for start in range(0, len(keys), BLOCK):
        labels[start : start + BLOCK] = _scan_block(reader, keys[start : start + BLOCK], skip_unreadable)
        reader.release()
    return labels


def _scan_block(reader: RecordReader, keys: np.ndarray, skip_unreadable: bool) -> np.ndarray:
    offsets = reader.offsets[np.searchsorted(reader.keys, keys)]
    words, at = reader.words, offsets // 4
    # Words of a record: magic, kind and length, flag, label, four of ids, the labels if any, the image. What is not
    # plainly good by them is left to the careful way.
    plain = at + 9 <= len(words)
    size = words.take(at + 1, mode="clip").astype(np.int64)
    flag = words.take(at + 2, mode="clip").astype(np.int64)
    kind, length = size >> 29, size & MAX_LENGTH
    plain &= (words.take(at, mode="clip") == MAGIC) & (kind == WHOLE)
    plain &= (length > HEADER.size + 4 * flag) & (offsets + PART.size + length <= reader.size)
    values = words.take(at + np.where(flag > 0, 8, 3), mode="clip").view("<f4")
    image = words.take(at + 8 + flag, mode="clip")
    plain &= (image & 0xFFFFFF == JPEG_WORD) | (image == PNG_WORD)
    good = plain & (values >= 0) & (values < LABEL_LIMIT) & (values == np.floor(values))
    labels = np.where(good, values, UNREADABLE).astype(np.int64)
    for row in np.flatnonzero(~good):
        try:
            labels[row] = read_face(reader, int(keys[row]))[1]
        except UnreadableError:
            if not skip_unreadable:
                raise
    return labels

"""Bytes of MXNet's RecordIO.

A record is one or more parts; a part is `magic, word, payload, padding to 4 bytes`, where the word's 3 high bits say
whole 0, first 1, middle 2 or last 3 and its 29 low bits are the payload's length. A payload holding the magic at a
4-byte boundary is cut there; the magic itself is left out and put back on reading. All numbers are little-endian.

A record that holds an image begins with a header, MXNet's IRHeader.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...utils.errors import DataError

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
MAX_LENGTH = (1 << 29) - 1
WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3
PART = struct.Struct("<II")
HEADER = struct.Struct("<IfQQ")


class Header(NamedTuple):
    """A record's header, as MXNet's IRHeader.

    Attributes:
        flag: 0 when `label` is one number, else how many float32 labels there are.
        label: a float; else a float32 array (flag,), or, for `pack`, any sequence of numbers.
        id, id2: whole numbers in [0, 2**64); `id` is usually the record's key.

    Example:
        >>> header, image = unpack(pack(Header(0, 3.0, 7, 0), b"an encoded image"))
        >>> header.label, bytes(image)
        (3.0, b'an encoded image')
    """

    flag: int
    label: float | Sequence[float] | np.ndarray
    id: int
    id2: int


def pack(header: Header, payload: bytes) -> bytes:
    """A record of header and payload. As with MXNet, `flag` follows from `label`: 0 for a number, else its length."""
    label = np.asarray(header.label, dtype="<f4")
    if label.ndim == 0:
        return HEADER.pack(0, label, header.id, header.id2) + payload
    return HEADER.pack(label.size, 0.0, header.id, header.id2) + label.tobytes() + payload


def unpack(record: memoryview | bytes, where: str = "record") -> tuple[Header, memoryview]:
    """Split a record into its header and its payload, without a copy.

    Raises:
        DataError: the record is shorter than its header says; the message starts with `where`.
    """
    view = memoryview(record)
    if len(view) < HEADER.size:
        raise DataError(f"{where}: {len(view)} bytes are too few for a header of {HEADER.size}")
    flag, label, id_, id2 = HEADER.unpack_from(view)
    if flag == 0:
        return Header(0, label, id_, id2), view[HEADER.size :]
    end = HEADER.size + 4 * flag
    if end > len(view):
        raise DataError(f"{where}: the header announces {flag} labels, but only {len(view) - HEADER.size} bytes follow")
    return Header(flag, np.frombuffer(view[HEADER.size : end], dtype="<f4"), id_, id2), view[end:]


def aligned_magics(payload: bytes) -> list[int]:
    """Where the magic stands at a multiple of 4 from the payload's beginning."""
    cuts, at = [], payload.find(MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            cuts.append(at)
        at = payload.find(MAGIC_BYTES, at + (4 if at % 4 == 0 else 1))
    return cuts

"""A face crop from an image file, as it goes into a record or a pair set: its own bytes wherever they fit."""

from __future__ import annotations

from pathlib import Path

import simplejpeg

from ..utils.errors import DataError
from .images import PNG_SIGNATURE, decode, encode_jpeg, is_image

QUALITY = 95  # of a JPEG that has to be written anew, as im2rec has it


def side(encoded: memoryview | bytes) -> int:
    """Height in pixels of an image that `decode` accepts, which is its width too; from its header."""
    if encoded[:8] == PNG_SIGNATURE:
        return int.from_bytes(encoded[20:24], "big")
    return simplejpeg.decode_jpeg_header(encoded)[0]


def check_face(path: str | Path, size: int = 112) -> bool:
    """Whether an image file can be packed as it is: a sound, square JPEG or PNG of `size` pixels a side.

    False means a sound, square image of another side. The whole image is decoded, so that no damage is packed.

    Raises:
        DataError: unreadable, neither JPEG nor PNG, damaged, or not square; names the path.
    """
    encoded = _read(path)
    decode(encoded, str(path), size)
    return side(encoded) == size


def load_face(path: str | Path, size: int = 112, quality: int = QUALITY) -> bytes:
    """The bytes of an image file if it is square with `size` pixels a side, else of a resized JPEG of it.

    Raises:
        DataError: see `check_face`.
    """
    encoded = _read(path)
    if is_image(encoded) and side(encoded) == size:
        return encoded
    return encode_jpeg(decode(encoded, str(path), size), quality)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the image cannot be read ({error.strerror})") from error

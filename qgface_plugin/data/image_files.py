"""Image files on disk: photographs of any size, and face crops as they go into a record or a pair set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from ..utils.errors import DataError
from ..utils.files import read_regular
from ..utils.listing import walk
from .images import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    check_png_ends,
    decode,
    decode_noting,
    decode_opencv,
    encode_jpeg,
    is_image,
)  # fmt: skip
from .jpeg_surplus import ends_well, without_surplus
from .photo_headers import MAX_PIXELS, check_size

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")  # of photographs
MAX_BYTES = 1 << 29  # of an image file
QUALITY = 95  # of a JPEG that has to be written anew, as im2rec has it


def list_photos(folder: Path) -> list[str]:
    """The photographs under a folder at any depth, sorted, as paths relative to it with `/` between the parts.

    Hidden files and what systems leave are passed over (see `utils.listing`).

    Raises:
        DataError: no such folder, or no photograph in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder that holds the photographs")
    found = [path.as_posix() for path in walk(folder) if path.name.lower().endswith(SUFFIXES)]
    if not found:
        raise DataError(f"{folder}: no image in it ({', '.join(SUFFIXES)})")
    return sorted(found)


def read_photo(path: str | Path) -> np.ndarray:
    """A photograph as uint8 (h, w, 3) RGB; an orientation tag is obeyed, grey becomes RGB.

    Raises:
        DataError: unreadable, too large (see `photo_headers`), cut short, or no image that OpenCV decodes; does not
            name the path.
    """
    return read_photo_noting(path)[0]


def read_photo_noting(path: str | Path) -> tuple[np.ndarray, bool]:
    """`read_photo`, and whether it is a JPEG with surplus bytes or without its end marker."""
    encoded = read_image(path)
    surplus = encoded[:3] == JPEG_SIGNATURE and not ends_well(encoded)
    return decode_photo(whole_jpeg(encoded) if surplus else encoded), surplus


def decode_photo(encoded: bytes) -> np.ndarray:
    """An image of any size as uint8 (h, w, 3) RGB, decoded by OpenCV as InsightFace's tools do.

    A JPEG that was cut short may be grey where it lacks data: see `whole_jpeg`.

    Raises:
        DataError: too large (see `photo_headers`), or nothing that OpenCV decodes; does not name the image.
    """
    if encoded[:8] == PNG_SIGNATURE:
        check_png_ends(encoded)
    check_size(encoded)
    return decode_opencv(encoded)


def whole_jpeg(encoded: bytes) -> bytes:
    """A JPEG of any size with all its pixels: the same bytes, or those without the surplus that decoders mind.

    Raises:
        DataError: too large, cut short or damaged; does not name the image.
    """
    check_size(encoded)
    try:
        simplejpeg.decode_jpeg(encoded, "RGB")
    except (ValueError, MemoryError) as error:
        whole = without_surplus(encoded, MAX_PIXELS)
        if whole is None:
            raise DataError(f"the JPEG is cut short after {len(encoded)} bytes, or damaged") from error
        return whole
    return encoded


def image_side(encoded: memoryview | bytes) -> int:
    """Height in pixels of an image that `decode` accepts, which is its width too; from its header."""
    if encoded[:8] == PNG_SIGNATURE:
        return int.from_bytes(encoded[20:24], "big")
    return simplejpeg.decode_jpeg_header(encoded, strict=False)[0]


@dataclass(frozen=True, slots=True)
class FaceFile:
    """What a look at an image file has shown.

    Attributes:
        fits: whether it can be packed as it is; else it is resized.
        surplus: whether it is a JPEG with surplus bytes or without its end marker.
    """

    fits: bool
    surplus: bool


def check_face(path: str | Path, size: int = 112) -> FaceFile:
    """`check_encoded` of an image file.

    Raises:
        DataError: unreadable too; names the path.
    """
    return check_encoded(read_image(path, f"{path}: "), str(path), size)


def check_encoded(encoded: bytes, where: str, size: int = 112) -> FaceFile:
    """Whether an image can be packed as it is.

    The whole image is decoded, so that no damage is packed.

    Args:
        encoded: the image.
        where: how messages name it.
        size: side in pixels that it should have.

    Returns:
        `fits` for a sound, square JPEG or PNG of that side, not for one of another side.

    Raises:
        DataError: neither JPEG nor PNG, damaged, or not square; begins with `where`.
    """
    _, surplus = decode_noting(encoded, where, size)
    return FaceFile(image_side(encoded) == size, surplus)


def load_face(path: str | Path, size: int = 112, quality: int = QUALITY) -> bytes:
    """The bytes of an image file if it is square with `size` pixels a side, else of a resized JPEG of it.

    Args:
        path: the file.
        size: side in pixels.
        quality: of that JPEG, 1 to 100.

    Raises:
        DataError: see `check_face`.
    """
    return fitted(read_image(path, f"{path}: "), str(path), size, quality)


def fitted(encoded: bytes, where: str, size: int = 112, quality: int = QUALITY) -> bytes:
    """An image as it is if it is square with `size` pixels a side, else a resized JPEG of it; see `load_face`."""
    if is_image(encoded) and image_side(encoded) == size:
        return encoded
    return encode_jpeg(decode(encoded, where, size), quality)


def read_image(path: str | Path, where: str = "") -> bytes:
    """The bytes of an image file.

    Args:
        path: the file.
        where: what the message begins with.

    Raises:
        DataError: unreadable, no regular file, or more than MAX_BYTES.
    """
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"{where}the image cannot be read ({error.strerror})") from error

"""Image files on disk: photographs of any size, and face crops as they go into a record or a pair set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from ..utils.errors import DataError
from ..utils.listing import walk
from .images import PNG_SIGNATURE, decode, encode_jpeg, is_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")  # of photographs
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


def read_photo(path: Path) -> np.ndarray:
    """A photograph as uint8 (h, w, 3) RGB; an orientation tag is obeyed, grey becomes RGB.

    Raises:
        DataError: unreadable, or no image that OpenCV decodes; does not name the path.
    """
    encoded = _read(path)
    try:
        image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR) if encoded else None
    except cv2.error as error:
        raise DataError(f"undecodable image of {len(encoded)} bytes ({error.err})") from error
    if image is None:
        raise DataError(f"undecodable image of {len(encoded)} bytes")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_side(encoded: memoryview | bytes) -> int:
    """Height in pixels of an image that `decode` accepts, which is its width too; from its header."""
    if encoded[:8] == PNG_SIGNATURE:
        return int.from_bytes(encoded[20:24], "big")
    return simplejpeg.decode_jpeg_header(encoded)[0]


def check_face(path: str | Path, size: int = 112) -> bool:
    """Whether an image file can be packed as it is.

    The whole image is decoded, so that no damage is packed.

    Args:
        path: the file.
        size: side in pixels that it should have.

    Returns:
        True for a sound, square JPEG or PNG of that side, False for one of another side.

    Raises:
        DataError: unreadable, neither JPEG nor PNG, damaged, or not square; names the path.
    """
    encoded = _read(path, f"{path}: ")
    decode(encoded, str(path), size)
    return image_side(encoded) == size


def load_face(path: str | Path, size: int = 112, quality: int = QUALITY) -> bytes:
    """The bytes of an image file if it is square with `size` pixels a side, else of a resized JPEG of it.

    Args:
        path: the file.
        size: side in pixels.
        quality: of that JPEG, 1 to 100.

    Raises:
        DataError: see `check_face`.
    """
    encoded = _read(path, f"{path}: ")
    if is_image(encoded) and image_side(encoded) == size:
        return encoded
    return encode_jpeg(decode(encoded, str(path), size), quality)


def _read(path: str | Path, where: str = "") -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{where}the image cannot be read ({error.strerror})") from error

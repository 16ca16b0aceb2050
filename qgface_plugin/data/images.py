"""Codecs of face images: encoded bytes to pixels and back. Stateless, so any number of threads may call them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from ..utils.errors import DataError
from .jpeg_surplus import ends_well, without_surplus

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SIDE = 2048  # pixels; a header of a few bytes that claims more would cost hundreds of megabytes
EXIF_REACH = 65536  # an Exif block is one JPEG segment near the beginning


def is_image(encoded: memoryview | bytes) -> bool:
    """Whether the bytes begin as a JPEG or a PNG does."""
    return encoded[:3] == JPEG_SIGNATURE or encoded[:8] == PNG_SIGNATURE


def decode(encoded: memoryview | bytes, where: str, size: int = 112) -> np.ndarray:
    """Decode a JPEG or PNG face crop.

    Grey images become RGB; an orientation tag is obeyed. A square image of another side is resized: by area when
    shrinking, bilinearly when growing. A JPEG whose pixels are whole is decoded although it carries surplus bytes or
    lacks its end marker; `decode_noting` tells of it.

    Args:
        encoded: the file's bytes.
        where: how messages name the image, such as "train.rec key 17 at offset 1234".
        size: side in pixels.

    Returns:
        uint8 (size, size, 3), RGB, C-contiguous.

    Raises:
        DataError: not a JPEG or PNG, damaged or cut short, or not square.
    """
    return decode_noting(encoded, where, size)[0]


def decode_noting(encoded: memoryview | bytes, where: str, size: int = 112) -> tuple[np.ndarray, bool]:
    """`decode`, and whether the image is a JPEG with surplus bytes or without its end marker (see `jpeg_surplus`)."""
    surplus = False
    if encoded[:3] == JPEG_SIGNATURE:
        image, surplus = _decode_jpeg(encoded, where)
    elif encoded[:8] == PNG_SIGNATURE:
        image = _decode_png(encoded, where)
    else:
        raise DataError(f"{where}: neither JPEG nor PNG; it begins with {bytes(encoded[:8])!r}")
    side = image.shape[0]
    if side == size:
        return image, surplus
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method), surplus


def decode_into(out: np.ndarray, encoded: memoryview | bytes, where: Callable[[], str]) -> bool:
    """`decode_noting` into an array: a sound JPEG of its size and without orientation takes no other memory.

    Args:
        out: uint8 (size, size, 3), C-contiguous.
        encoded: the file's bytes.
        where: called only when it is needed.

    Returns:
        Whether the image is a JPEG with surplus bytes or without its end marker.

    Raises:
        DataError: as `decode`; `out` then holds nothing of use.
    """
    if encoded[:3] == JPEG_SIGNATURE and not _oriented(encoded):
        try:
            if simplejpeg.decode_jpeg(encoded, "RGB", buffer=out).shape == out.shape:
                return not ends_well(encoded)
        except (ValueError, MemoryError):  # another size, surplus bytes, or damaged: `decode_noting` tells them apart
            pass
    out[:], surplus = decode_noting(encoded, where(), len(out))
    return surplus


def surplus_line(count: int) -> str:
    """What a report or a log says of images that `decode_noting` has noted."""
    if count == 1:
        return "1 JPEG carries surplus bytes or lacks its end marker; no pixel is missing, it is used"
    return f"{count} JPEGs carry surplus bytes or lack their end marker; no pixel is missing, they are used"


def encode_jpeg(image_rgb: np.ndarray, quality: int) -> bytes:
    """Encode uint8 (h, w, 3) RGB as a JPEG with 4:2:0 chroma, quality 1 to 100."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image_rgb), quality, "RGB", "420")


def encode_png(image_rgb: np.ndarray) -> bytes:
    """Encode uint8 (h, w, 3) RGB as a PNG, without loss."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def _decode_jpeg(encoded: memoryview | bytes, where: str) -> tuple[np.ndarray, bool]:
    surplus = not ends_well(encoded)
    try:
        image = _decode_strictly(encoded, where)
    except (ValueError, MemoryError) as error:
        whole = without_surplus(encoded, MAX_SIDE * MAX_SIDE)
        if whole is None:
            raise DataError(f"{where}: undecodable JPEG of {len(encoded)} bytes ({error})") from error
        image, encoded, surplus = _decode_strictly(whole, where), whole, True
    # Only OpenCV obeys orientation tags; the strict decoding above still vouches for the whole file.
    return (decode_opencv(encoded, f"{where}: ") if _oriented(encoded) else image), surplus


def _decode_strictly(encoded: memoryview | bytes, where: str) -> np.ndarray:
    height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
    _check_sides(height, width, where)
    return simplejpeg.decode_jpeg(encoded, "RGB")


def _oriented(encoded: memoryview | bytes) -> bool:
    """Whether there may be an orientation tag."""
    return b"Exif\0\0" in bytes(encoded[:EXIF_REACH])


def check_png_ends(encoded: memoryview | bytes, where: str = "") -> None:
    """See that a PNG is whole before OpenCV, which would allocate what a damaged chunk claims.

    Args:
        encoded: the file's bytes.
        where: what the message begins with.

    Raises:
        DataError: it is cut short.
    """
    if not png_ends(encoded):
        raise DataError(
            f"{where}undecodable image of {len(encoded)} bytes (PNG cut short, or a chunk's size is damaged)"
        )


def _decode_png(encoded: memoryview | bytes, where: str) -> np.ndarray:
    _check_sides(int.from_bytes(encoded[20:24], "big"), int.from_bytes(encoded[16:20], "big"), where)
    check_png_ends(encoded, f"{where}: ")
    return decode_opencv(encoded, f"{where}: ")


def png_ends(encoded: memoryview | bytes) -> bool:
    """Whether a PNG's chunks lead to its last one; OpenCV allocates what a chunk claims, whether it is there or not."""
    at = len(PNG_SIGNATURE)
    while at < len(encoded) and encoded[at + 4 : at + 8] != b"IEND":
        at += 12 + int.from_bytes(encoded[at : at + 4], "big")
    return at + 12 <= len(encoded)


def decode_opencv(encoded: memoryview | bytes, where: str = "") -> np.ndarray:
    """An image as OpenCV decodes it, uint8 (h, w, 3) RGB; sizes are checked before.

    Args:
        encoded: the file's bytes.
        where: what the message begins with.

    Raises:
        DataError: nothing that OpenCV decodes.
    """
    try:
        image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{where}undecodable image of {len(encoded)} bytes ({error.err})") from error
    if image is None:
        raise DataError(f"{where}undecodable image of {len(encoded)} bytes")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_sides(height: int, width: int, where: str) -> None:
    if height != width:
        raise DataError(
            f"{where}: the image is {width} x {height}, not square: faces must be detected and aligned first "
            "(five landmarks to the 112 x 112 ArcFace template)"
        )
    if not 0 < height <= MAX_SIDE:
        raise DataError(f"{where}: an image of {width} x {height} pixels is no face crop (side 1 to {MAX_SIDE})")

"""Codecs of face images: encoded bytes to pixels and back. Stateless, so any number of threads may call them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from ..utils.errors import DataError

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
    shrinking, bilinearly when growing.

    Args:
        encoded: the file's bytes.
        where: how messages name the image, such as "train.rec key 17 at offset 1234".
        size: side in pixels.

    Returns:
        uint8 (size, size, 3), RGB, C-contiguous.

    Raises:
        DataError: not a JPEG or PNG, damaged or cut short, or not square.
    """
    if encoded[:3] == JPEG_SIGNATURE:
        image = _decode_jpeg(encoded, where)
    elif encoded[:8] == PNG_SIGNATURE:
        image = _decode_png(encoded, where)
    else:
        raise DataError(f"{where}: neither JPEG nor PNG; it begins with {bytes(encoded[:8])!r}")
    side = image.shape[0]
    if side == size:
        return image
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def decode_into(out: np.ndarray, encoded: memoryview | bytes, where: Callable[[], str]) -> None:
    """`decode` into an array: the usual JPEG, of the array's size and without orientation, takes no other memory.

    Args:
        out: uint8 (size, size, 3), C-contiguous.
        encoded: the file's bytes.
        where: called only when it is needed.

    Raises:
        DataError: as `decode`; `out` then holds nothing of use.
    """
    if encoded[:3] == JPEG_SIGNATURE and not _oriented(encoded):
        try:
            if simplejpeg.decode_jpeg(encoded, "RGB", buffer=out).shape == out.shape:
                return
        except (ValueError, MemoryError):  # another size, or damaged: `decode` tells them apart
            pass
    out[:] = decode(encoded, where(), len(out))


def encode_jpeg(image_rgb: np.ndarray, quality: int) -> bytes:
    """Encode uint8 (h, w, 3) RGB as a JPEG with 4:2:0 chroma, quality 1 to 100."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image_rgb), quality, "RGB", "420")


def encode_png(image_rgb: np.ndarray) -> bytes:
    """Encode uint8 (h, w, 3) RGB as a PNG, without loss."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def _decode_jpeg(encoded: memoryview | bytes, where: str) -> np.ndarray:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
        _check_sides(height, width, where)
        image = simplejpeg.decode_jpeg(encoded, "RGB")
    except DataError:
        raise
    except (ValueError, MemoryError) as error:
        raise DataError(f"{where}: undecodable JPEG of {len(encoded)} bytes ({error})") from error
    # Only OpenCV obeys orientation tags; the strict decoding above still vouches for the whole file.
    return _decode_opencv(encoded, where) if _oriented(encoded) else image


def _oriented(encoded: memoryview | bytes) -> bool:
    """Whether there may be an orientation tag."""
    return b"Exif\0\0" in bytes(encoded[:EXIF_REACH])


def _decode_png(encoded: memoryview | bytes, where: str) -> np.ndarray:
    _check_sides(int.from_bytes(encoded[20:24], "big"), int.from_bytes(encoded[16:20], "big"), where)
    at = len(PNG_SIGNATURE)
    while at < len(encoded) and encoded[at + 4 : at + 8] != b"IEND":  # OpenCV allocates what a chunk claims
        at += 12 + int.from_bytes(encoded[at : at + 4], "big")
    if at + 12 > len(encoded):
        raise DataError(
            f"{where}: undecodable image of {len(encoded)} bytes (PNG cut short, or a chunk's size is damaged)"
        )
    return _decode_opencv(encoded, where)


def _decode_opencv(encoded: memoryview | bytes, where: str) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{where}: undecodable image of {len(encoded)} bytes ({error.err})") from error
    if image is None:
        raise DataError(f"{where}: undecodable image of {len(encoded)} bytes")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_sides(height: int, width: int, where: str) -> None:
    if height != width:
        raise DataError(
            f"{where}: the image is {width} x {height}, not square: faces must be detected and aligned first "
            "(five landmarks to the 112 x 112 ArcFace template)"
        )
    if not 0 < height <= MAX_SIDE:
        raise DataError(f"{where}: an image of {width} x {height} pixels is no face crop (side 1 to {MAX_SIDE})")

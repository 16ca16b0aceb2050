"""Sizes of photographs from their headers, so that what would take gigabytes is refused before it is decoded."""

from __future__ import annotations

import re
import struct

import simplejpeg

from ..utils.errors import DataError
from .images import JPEG_SIGNATURE, PNG_SIGNATURE

MAX_PIXELS = 1 << 26  # 67 megapixels, 200 MB decoded: cameras have up to 61, telephones up to 64
MAX_SIDE = 32_000  # pixels; OpenCV warps no longer ones
KINDS = "JPEG, PNG, BMP, WebP, GIF, TIFF or AVIF"
_AVIF_SIZE = re.compile(rb"ispe\0{4}(.{4})(.{4})", re.DOTALL)


def check_size(encoded: bytes) -> None:
    """Refuse an encoded image that is too large to be a photograph, by what its header says.

    Raises:
        DataError: more than MAX_PIXELS, a side above MAX_SIDE, or none of the KINDS; does not name the image.
    """
    try:
        size = _size(encoded)
    except (ValueError, LookupError, struct.error) as error:  # simplejpeg's KeyError: a file without a frame
        raise DataError(f"undecodable image of {len(encoded)} bytes ({error})") from error
    if size is None:
        begins = f"; it begins with {encoded[:8]!r}" if encoded else ""
        raise DataError(f"undecodable image of {len(encoded)} bytes: it is no {KINDS}{begins}")
    width, height = size
    if not (width > 0 and height > 0):
        raise DataError(f"undecodable image of {len(encoded)} bytes: its header says {width} x {height} pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise DataError(
            f"an image of {width} x {height} pixels is too large: at most {MAX_PIXELS / 1e6:.0f} megapixels and "
            f"{MAX_SIDE} pixels a side are decoded; shrink it"
        )


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height; None for another kind of file. ValueError, LookupError, struct.error: a damaged header."""
    if data[:3] == JPEG_SIGNATURE:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        return width, height
    if data[:8] == PNG_SIGNATURE:
        return struct.unpack(">II", data[16:24])
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return struct.unpack("<HH", data[6:10])
    if data[:2] == b"BM":
        if struct.unpack("<I", data[14:18])[0] == 12:  # the header of OS/2
            return struct.unpack("<HH", data[18:22])
        width, height = struct.unpack("<ii", data[18:26])
        return abs(width), abs(height)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_size(data, "<" if data[:1] == b"I" else ">")
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        sizes = [struct.unpack(">II", b"".join(found.groups())) for found in _AVIF_SIZE.finditer(data)]
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return None


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(data: bytes, order: str) -> tuple[int, int]:
    """Of the first image in the file, which is the one that is decoded."""
    at = struct.unpack(order + "I", data[4:8])[0]
    entries = struct.unpack(order + "H", data[at : at + 2])[0]
    found = {}
    for start in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind = struct.unpack(order + "HH", data[start : start + 4])
        if tag in (256, 257):
            wide = "I" if kind == 4 else "H"
            found[tag] = struct.unpack_from(order + wide, data, start + 8)[0]
    return found.get(256, 0), found.get(257, 0)

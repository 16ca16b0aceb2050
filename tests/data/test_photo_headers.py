"""Sizes by headers: what OpenCV writes, what claims too much, and what is no photograph."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from photographs import png_of

from qgface_plugin.data.photo_headers import MAX_SIDE, _size, check_size
from qgface_plugin.utils.errors import DataError


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".gif", ".tiff", ".avif"])
def test_the_size_is_read(suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (44, 31, 3), dtype=np.uint8)
    try:
        encoded = cv2.imencode(suffix, image)[1].tobytes()
    except cv2.error:
        pytest.skip(f"this OpenCV does not write {suffix}")
    assert _size(encoded) == (31, 44)
    check_size(encoded)
    if suffix == ".webp":
        lossy = cv2.imencode(suffix, image, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()
        assert _size(lossy) == (31, 44)


def too_large() -> dict[str, bytes]:
    jpeg = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    at = jpeg.index(b"\xff\xc0") + 5
    big = struct.pack("<II", 20_000, 20_000)
    return {
        "jpg": jpeg[:at] + struct.pack(">HH", 20_000, 20_000) + jpeg[at + 4 :],
        "png": png_of(20_000, 20_000),
        "gif": b"GIF89a" + struct.pack("<HH", 20_000, 20_000) + bytes(20),
        "bmp": b"BM" + bytes(12) + struct.pack("<I", 40) + big + bytes(40),
        "bmp, upside down": b"BM" + bytes(12) + struct.pack("<Iii", 40, 20_000, -20_000) + bytes(40),
        "bmp of OS/2": b"BM" + bytes(12) + struct.pack("<IHH", 12, 20_000, 20_000) + bytes(40),
        "webp": b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (19_999).to_bytes(3, "little") * 2 + bytes(9),
        "tiff": b"II*\0\x08\0\0\0\2\0" + b"".join(struct.pack("<HHII", tag, 4, 1, 20_000) for tag in (256, 257)),
        "avif": b"\0\0\0 ftypavif" + bytes(9) + b"ispe\0\0\0\0" + struct.pack(">II", 20_000, 20_000),
    }


@pytest.mark.parametrize("kind", too_large())
def test_too_many_pixels(kind: str) -> None:
    with pytest.raises(DataError, match="20000 x 20000 pixels is too large: at most 67 megapixels"):
        check_size(too_large()[kind])


def test_too_long_a_side() -> None:
    check_size(png_of(MAX_SIDE, 3))
    with pytest.raises(DataError, match=f"{MAX_SIDE + 1} x 3 pixels is too large"):
        check_size(png_of(MAX_SIDE + 1, 3))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "image of 0 bytes: it is no JPEG"),
        (b"%PDF-1.5 and so on", "it is no JPEG.* begins with b'%PDF-1.5'"),
        (b"\xff\xd8\xff", "image of 3 bytes"),
        (b"\x89PNG\r\n\x1a\n", "image of 8 bytes"),
        (b"BM", "image of 2 bytes"),
        (b"II*\0\xff\xff\xff\xff", "image of 8 bytes"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image of 16 bytes"),
        (b"\0\0\0 ftypavif", "0 x 0 pixels"),
    ],
)
def test_no_photograph(encoded: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_size(encoded)

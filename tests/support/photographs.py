"""Small images, encoded and written."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from qgface_plugin.data.images import encode_jpeg


def save(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def jpeg(seed: int, side: int = 24) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_jpeg(cv2.resize(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (side, side)), 90)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int) -> bytes:
    """A grey PNG of zeros: a few kilobytes for as many megapixels as one likes."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(width + 1)) for _ in range(min(height, 4000))) + rows.flush()
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")

"""Small images, encoded and written."""

from __future__ import annotations

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

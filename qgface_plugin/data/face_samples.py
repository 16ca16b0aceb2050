"""A few aligned faces from whatever holds some, to try a model on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..utils.errors import DataError
from ..utils.sampling import evenly_spread
from .bin_files import read_bin
from .image_files import list_photos
from .images import decode


def sample_faces(path: str | Path, count: int = 8) -> np.ndarray:
    """Up to `count` faces, evenly spread over a folder's images (at any depth) or over a `.bin` pair set.

    Returns:
        uint8 (count or fewer, 112, 112, 3) RGB.

    Raises:
        DataError: no such folder or file, nothing in it, or an image that is not an aligned face; names it.
    """
    path = Path(path)
    if path.is_dir():
        names = _spread(list_photos(path), count)
        return np.stack([decode(_read(path / name), str(path / name)) for name in names])
    images = list(enumerate(read_bin(path).images))
    return np.stack([decode(image, f"{path} image {number}") for number, image in _spread(images, count)])


def _spread(items: list, count: int) -> list:
    return [items[row] for row in evenly_spread(len(items), count)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the image cannot be read ({error.strerror})") from error

"""Photographs of any size: found in folders, decoded to pixels."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from ..utils.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_photos(folder: Path) -> list[str]:
    """The photographs under a folder at any depth, sorted, as paths relative to it with `/` between the parts.

    Names beginning with a dot are passed over. Raises DataError when there is no such folder or no photograph in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder that holds the photographs")
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append(Path(parent, name).relative_to(folder).as_posix())
    if not found:
        raise DataError(f"{folder}: no image in it ({', '.join(SUFFIXES)})")
    return sorted(found)


def read_photo(path: Path) -> np.ndarray:
    """A photograph as uint8 (h, w, 3) RGB; an orientation tag is obeyed, grey becomes RGB.

    Raises:
        DataError: unreadable, or no image that OpenCV decodes; does not name the path.
    """
    try:
        encoded = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR) if encoded else None
    except OSError as error:
        raise DataError(f"the image cannot be read ({error.strerror})") from error
    except cv2.error as error:
        raise DataError(f"undecodable image of {len(encoded)} bytes ({error.err})") from error
    if image is None:
        raise DataError(f"undecodable image of {len(encoded)} bytes")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

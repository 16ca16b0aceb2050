"""Faces without labels as a source: all images below a folder, each an identity of its own.

For training without classification (`config.qgface.classification_weight = 0`). An image's label is its own number, so
that the contrast knows of each queue entry whether it is of the same image; two images of one person count as two.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import DataError
from ...utils.files import read_regular
from ...utils.listing import walk
from ..images import is_image
from .folder import SUFFIXES

LOGGER = logging.getLogger(__name__)


class UnlabelledFaces:
    """Encoded faces in `root` and its sub-folders, in the order of their sorted paths.

    Hidden files and what systems leave are passed over; any other file that is not a `.jpg`, `.jpeg` or `.png` is
    passed over and counted in the log.

    Raises:
        DataError: no such folder, or no image in it.

    Example:
        >>> import tempfile
        >>> from qgface_plugin.data.images import encode_png
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("b.png", "2024/a.png"):
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     _ = (root / name).write_bytes(encode_png(np.zeros((112, 112, 3), np.uint8)))
        >>> faces = UnlabelledFaces(root)
        >>> len(faces), faces.labels().tolist(), Path(faces.where(0)).name
        (2, [0, 1], 'a.png')
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; name the folder that holds the images")
        there = sorted(path.as_posix() for path in walk(self.root))
        self._names = [name for name in there if name.lower().endswith(SUFFIXES)]
        kinds = "/".join(SUFFIXES)
        if not self._names:
            raise DataError(f"{self.root}: no image ({kinds}) in it or below it")
        if passed_over := len(there) - len(self._names):
            LOGGER.warning("%s: %d entries that are no %s passed over", self.root, passed_over, kinds)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def num_classes(self) -> int:
        """As many as images."""
        return len(self._names)

    def labels(self) -> np.ndarray:
        """The label of every image, int64 (len,): its own number."""
        return np.arange(len(self))

    def check(self) -> None:
        """Part of every face source; there are no labels that could disagree."""

    def where(self, index: int) -> str:
        """How messages name an image: its path."""
        return str(self._path(index))

    def read(self, index: int) -> tuple[bytes, int]:
        """Encoded image and label.

        Raises:
            DataError: unreadable, or neither JPEG nor PNG; names the path.
        """
        path = self._path(index)
        try:
            encoded = read_regular(path)
        except OSError as error:
            raise DataError(f"{path}: the image cannot be read ({error.strerror})") from error
        if not is_image(encoded):
            raise DataError(f"{path}: neither JPEG nor PNG; it has {len(encoded)} bytes, beginning {encoded[:8]!r}")
        return encoded, index

    def check_size(self) -> None:
        """Part of every face source; files of a folder are read whole, or not at all."""

    def fingerprint(self) -> dict[str, Any]:
        """What tells these faces from others, wherever they lie: count, first and last names, a digest of all."""
        names = hashlib.sha256()
        for name in self._names:
            names.update(os.fsencode(name) + b"\0")
        ends = {"first image": self._names[0], "last image": self._names[-1]}
        return {"images": len(self), **ends, "SHA-256 of all names": names.hexdigest()}

    def _path(self, index: int) -> Path:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self.root / self._names[index]

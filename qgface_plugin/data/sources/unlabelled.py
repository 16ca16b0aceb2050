"""Faces without labels as a source: all images below a folder, each an identity of its own.

For training without classification (`config.qgface.classification_weight = 0`). An image's label is its own number, so
that the contrast knows of each queue entry whether it is of the same image; two images of one person count as two.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ...utils.errors import DataError
from ...utils.listing import walk
from .folder import SUFFIXES, ImageFiles

LOGGER = logging.getLogger(__name__)


class UnlabelledFaces(ImageFiles):
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
        root = Path(root)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; name the folder that holds the images")
        there = sorted(path.as_posix() for path in walk(root))
        self._names = [name for name in there if name.lower().endswith(SUFFIXES)]
        kinds = "/".join(SUFFIXES)
        if not self._names:
            raise DataError(f"{root}: no image ({kinds}) in it or below it")
        if passed_over := len(there) - len(self._names):
            LOGGER.warning("%s: %d entries that are no %s passed over", root, passed_over, kinds)
        super().__init__(root, np.arange(len(self._names)))

    @property
    def num_classes(self) -> int:
        """As many as images."""
        return len(self)

    def _name(self, index: int) -> str:
        return self._names[index]

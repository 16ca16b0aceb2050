"""Image folders as a source of faces, one sub-folder per identity. Nothing falls back to it: a user chooses it."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import DataError
from ...utils.files import read_regular
from ...utils.listing import entries_in
from ..images import is_image

SUFFIXES = (".jpg", ".jpeg", ".png")

LOGGER = logging.getLogger(__name__)


class ImageFiles:
    """Encoded faces in files below `root`, of which a subclass says where each is, and whose it is.

    Args:
        root: the folder.
        labels: (len,) int64, of the images in their order.
    """

    def __init__(self, root: Path, labels: np.ndarray) -> None:
        self.root, self._labels = root, labels

    def __len__(self) -> int:
        return len(self._labels)

    def _name(self, index: int) -> str:
        """An image's path below `root`."""
        raise NotImplementedError

    def labels(self) -> np.ndarray:
        """The label of every image, int64 (len,)."""
        return self._labels.copy()

    def check(self) -> None:
        """Part of every face source; a folder's labels are its own order, so there is nothing that could disagree."""

    def check_size(self) -> None:
        """Part of every face source; files of a folder are read whole, or not at all."""

    def where(self, index: int) -> str:
        """How messages name an image: its path."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return str(self.root / self._name(index))

    def read(self, index: int) -> tuple[bytes, int]:
        """Encoded image and label.

        Raises:
            DataError: unreadable, or neither JPEG nor PNG; names the path.
        """
        path = self.where(index)
        try:
            encoded = read_regular(path)
        except OSError as error:
            raise DataError(f"{path}: the image cannot be read ({error.strerror})") from error
        if not is_image(encoded):
            raise DataError(f"{path}: neither JPEG nor PNG; it has {len(encoded)} bytes, beginning {encoded[:8]!r}")
        return encoded, int(self._labels[index])

    def fingerprint(self) -> dict[str, Any]:
        """What tells these faces from others, wherever they lie: counts, first and last names, a digest of all."""
        names = hashlib.sha256()
        for index in range(len(self)):
            names.update(os.fsencode(self._name(index)) + b"\0")
        ends = {"first image": self._name(0), "last image": self._name(len(self) - 1)}
        return {"images": len(self), **ends, "SHA-256 of all names": names.hexdigest()}


class FaceFolder(ImageFiles):
    """Encoded faces in `root/<identity>/<image>`; identities are numbered in the order of their sorted names.

    Images are ordered by identity, then by name. Hidden files and what systems leave are passed over; any other
    file that is not a `.jpg`, `.jpeg` or `.png` is passed over and counted in the log.

    Raises:
        DataError: no such folder, no identity in it, or an identity without an image.

    Example:
        >>> import tempfile
        >>> from qgface_plugin.data.images import encode_png
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("Ada/1.png", "Ada/2.png", "Bob/1.png"):
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     _ = (root / name).write_bytes(encode_png(np.zeros((112, 112, 3), np.uint8)))
        >>> faces = FaceFolder(root)
        >>> faces.identities, faces.labels().tolist()
        (['Ada', 'Bob'], [0, 0, 1])
    """

    def __init__(self, root: str | Path) -> None:
        root = Path(root)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; name the folder that holds one sub-folder per identity")
        self.identities = [entry.name for entry in entries_in(root) if entry.is_dir()]
        if not self.identities:
            raise DataError(f"{root}: no sub-folder in it; images belong in one sub-folder per identity")
        self._names: list[str] = []
        labels: list[int] = []
        passed_over = 0
        for label, identity in enumerate(self.identities):
            there = entries_in(root / identity)
            images = [entry.name for entry in there if entry.name.lower().endswith(SUFFIXES)]
            if not images:
                kinds = ", ".join(SUFFIXES)
                raise DataError(f"{root / identity}: no image ({kinds}) of this identity; remove it or add some")
            passed_over += len(there) - len(images)
            self._names += images
            labels += [label] * len(images)
        super().__init__(root, np.array(labels, dtype=np.int64))
        if passed_over:
            LOGGER.warning("%s: %d entries that are no %s passed over", root, passed_over, "/".join(SUFFIXES))

    @property
    def num_classes(self) -> int:
        """Number of identities, which is the number of sub-folders."""
        return len(self.identities)

    def _name(self, index: int) -> str:
        return f"{self.identities[self._labels[index]]}/{self._names[index]}"

    def fingerprint(self) -> dict[str, Any]:
        """As `ImageFiles.fingerprint`, and the number of identities."""
        return {"images": len(self), "identities": self.num_classes, **super().fingerprint()}

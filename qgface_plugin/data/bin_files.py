"""Pair sets in InsightFace's `.bin` files: a pickle of (encoded images, flags); images 2i and 2i + 1 are a pair."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..utils.errors import DataError
from ..utils.files import write_bytes
from ..utils.safe_pickle import PlainArray, load_plain
from .images import decode_noting, surplus_line

LOGGER = logging.getLogger(__name__)

PROTOCOL = 4
PART = 64  # images per task of a thread: a task for each one costs more than a tenth of its decoding


@dataclass(frozen=True)
class PairSet:
    """Verification pairs, kept encoded.

    Attributes:
        images: 2N encoded images; 2i and 2i + 1 are a pair.
        same: bool (N,), whether a pair shows one identity.
        name: such as "lfw".

    Example:
        >>> from qgface_plugin.data.procedural.face import draw_face
        >>> from qgface_plugin.data.images import encode_png
        >>> pair = PairSet([encode_png(draw_face(1, 0)), encode_png(draw_face(1, 1))], np.array([True]), "drawn")
        >>> pair.decode(workers=1).shape
        (2, 112, 112, 3)
    """

    images: list[bytes]
    same: np.ndarray
    name: str

    def decode(self, workers: int | None = None, progress: str | None = None) -> np.ndarray:
        """All images, decoded by threads into one array. JPEGs with surplus bytes are counted in the log.

        Args:
            workers: how many threads; None is one for each core that this process may use.
            progress: label of a progress bar; None shows none.

        Returns:
            uint8 (2N, 112, 112, 3) RGB.

        Raises:
            DataError: an image that cannot be decoded or is not square; names the set and the image's number.
        """
        pixels = np.empty((len(self.images), 112, 112, 3), dtype=np.uint8)

        def fill(start: int) -> tuple[int, int]:
            part, surplus = self.images[start : start + PART], 0
            for number, image in enumerate(part, start):
                pixels[number], noted = decode_noting(image, f"{self.name} image {number}")
                surplus += noted
            return len(part), surplus

        surplus = 0

        bar = tqdm(total=len(pixels), desc=progress, unit="image", disable=progress is None, leave=False)
        with bar, ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            for done, noted in pool.map(fill, range(0, len(pixels), PART)):  # decoding releases the GIL
                bar.update(done)
                surplus += noted
        if surplus:
            LOGGER.warning("%s: %s", self.name, surplus_line(surplus))
        return pixels


def read_bin(path: str | Path) -> PairSet:
    """Read a pair set written by Python 2 or 3, with images as bytes or as uint8 arrays of encoded bytes.

    The pickle may hold lists, tuples, numbers, bytes and arrays of whole numbers or bools, so flags may be NumPy's
    integers too; anything else is refused, so a hostile file can run no code.

    Raises:
        DataError: cut short, refused (names what the file asked for), or counts that do not fit.
    """
    path = Path(path)
    try:
        content = load_plain(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path}: the pair set cannot be read ({error.strerror})") from error
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise DataError(f"{path}: not a pair set: the pickle holds {type(content).__name__}, not (images, flags)")
    images = _listed(content[0], path, "images")
    flags = _listed(content[1], path, "flags")
    if not flags or len(images) != 2 * len(flags):
        raise DataError(f"{path}: {len(images)} images for {len(flags)} pairs; a pair has exactly two images")
    encoded = [_encoded(image, f"{path} image {number}") for number, image in enumerate(images)]
    return PairSet(encoded, np.array([_flag(flag, f"{path} pair {i}") for i, flag in enumerate(flags)]), path.stem)


def write_bin(path: str | Path, images: Sequence[bytes], same: Sequence[bool]) -> None:
    """Write a pair set that arcface_torch's loader reads: (list of bytes, list of bool).

    The file appears under its name only when it is complete.

    Args:
        path: the `.bin`; its folder is made where there is none.
        images: 2N encoded images.
        same: of each pair, whether it shows one identity.

    Raises:
        DataError: not two images per pair.
    """
    path = Path(path)
    if len(images) != 2 * len(same):
        raise DataError(f"{path}: {len(images)} images for {len(same)} pairs; a pair has exactly two images")
    content = ([bytes(image) for image in images], [bool(flag) for flag in same])
    write_bytes(path, pickle.dumps(content, protocol=PROTOCOL))


def _listed(value: object, path: Path, what: str) -> list:
    """A list or tuple, or a one-dimensional array, as a list."""
    if isinstance(value, PlainArray):
        value = _values(value, f"{path} {what}").ravel().tolist()
    if isinstance(value, (list, tuple)):
        return list(value)
    raise DataError(f"{path}: its {what} are {type(value).__name__}, not a list")


def _encoded(image: object, where: str) -> bytes:
    if isinstance(image, PlainArray):
        values = _values(image, where)
        if values.dtype != np.uint8 or values.size != max(values.shape, default=0):
            raise DataError(f"{where}: {values.dtype} array of shape {values.shape} is not an image's encoded bytes")
        assert isinstance(image.raw, bytes)  # which `values` has checked
        return image.raw
    if isinstance(image, bytes):
        return image
    raise DataError(f"{where}: {type(image).__name__} is no encoded image; bytes and flat uint8 arrays are")


def _flag(flag: object, where: str) -> bool:
    if isinstance(flag, int) and flag in (0, 1):
        return bool(flag)
    shown = flag if isinstance(flag, int) else type(flag).__name__
    raise DataError(f"{where}: its flag is {shown}, not true or false")


def _values(array: PlainArray, where: str) -> np.ndarray:
    try:
        return array.values()
    except DataError as error:
        raise DataError(f"{where}: {error}") from None

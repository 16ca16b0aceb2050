"""Embeddings of photographs: read, face found, aligned, embedded. What every loaded model can do with files.

Files are read here, so the order of channels is known at every step: RGB, which a model trained on BGR turns itself. An
array of pixels never comes from outside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ..data.image_files import image_side, read_image, read_photo
from ..data.images import decode, is_image
from ..data.packing.align_folder import Finder, check_points, largest_face
from ..data.packing.alignment import align
from ..data.packing.detectors import find_detector
from ..utils.errors import DataError
from ..utils.parallel import ordered_map
from .embeddings import Embeddings, check_reading
from .quality_calibration import QualityCalibration

if TYPE_CHECKING:
    from .face_model import FaceModel

SIDE = 112
Read = tuple[np.ndarray, int]  # face, uint8 (112, 112, 3) RGB, and how many faces the photograph has


@dataclass(frozen=True)
class PhotoEmbeddings:
    """Embeddings of the N photographs of which there is one.

    Attributes:
        paths: the photographs, N of them, as they were given.
        embeddings: (N, d) float32 of unit length: the product of two is their cosine.
        norms: (N,) float32, norm of the raw feature of the image as it is: its quality.
        faces: (N,) int64, faces found in each, of which the largest is embedded; 1 for an aligned crop.
        failures: path -> why it has no embedding.
        quality: (N,) float64, percent of a calibration's reference with a lower norm; None without a calibration.

    Example:
        >>> found = PhotoEmbeddings(("a.jpg", "b.jpg"), np.eye(2, dtype=np.float32), np.ones(2), np.ones(2))
        >>> found.cosine(0, 1)
        0.0
    """

    paths: tuple[str, ...]
    embeddings: np.ndarray
    norms: np.ndarray
    faces: np.ndarray
    failures: dict[str, str] = field(default_factory=dict)
    quality: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def cosine(self, first: int, second: int) -> float:
        """Cosine of two of them, in [-1, 1]."""
        return float(self.embeddings[first].astype(np.float64) @ self.embeddings[second].astype(np.float64))


class EmbedsFiles:
    """Mixin for face models: `embed_files`."""

    def embed_files(
        self: FaceModel,
        files: Sequence[str | Path],
        detector: str | Callable[[np.ndarray], Any] | None = None,
        *,
        flip: bool = True,
        batch_size: int = 64,
        workers: int = 2,
        on_corrupt: str = "error",
        calibration: QualityCalibration | None = None,
        threshold: float = 0.5,
        progress: str | None = None,
    ) -> PhotoEmbeddings:
        """Embeddings of the largest face in each photograph.

        Args:
            files: photographs; without a detector aligned faces of 112 x 112 pixels.
            detector: finds faces, see `data.packing.detectors.find_detector`: "buffalo_l", a file, "module:function",
                or a function; None: the files are aligned faces.
            flip: add the feature of the mirror image, as the evaluations do; thresholds hold for the same choice.
            batch_size: faces per forward pass.
            workers: threads that read and align.
            on_corrupt: "error", or "skip": photographs that cannot be read or have no face are failures in the result.
            calibration: of this model's norms, for `quality`.
            threshold: lowest score of a face.
            progress: label of a progress bar; None shows none.

        Raises:
            DataError: no file, a photograph that cannot be used (with "error"), or not one that can be.
            ConfigError: an argument out of range, no such detector.
        """
        find = None if detector is None else largest_face(find_detector(detector, threshold))
        found = embed_photos(self, files, find, flip, batch_size, workers, on_corrupt, progress)
        if not len(found):
            name, reason = next(iter(found.failures.items()))
            raise DataError(f"none of {len(files)} photographs has an embedding; the first, {name}: {reason}")
        return found if calibration is None else with_quality(found, calibration)


def embed_photos(
    model: FaceModel,
    files: Sequence[str | Path],
    find: Finder | None,
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 2,
    on_corrupt: str = "error",
    progress: str | None = None,
) -> PhotoEmbeddings:
    """`EmbedsFiles.embed_files`, perhaps of nothing but failures.

    Args:
        model: the encoder.
        files, flip, batch_size, workers, on_corrupt, progress: as `embed_files` has them.
        find: gives the landmarks of a photograph; None: the files are aligned faces.

    Raises:
        DataError, ConfigError: as `embed_files`.
    """
    check_reading(batch_size, workers, on_corrupt)
    if not files:
        raise DataError("there is no photograph to embed")
    names = [os.fspath(file) for file in files]
    paths: list[str] = []
    faces: list[int] = []
    parts: list[Embeddings] = []
    failures: dict[str, str] = {}
    read = ordered_map(partial(_read_or_reason, find=find), names, workers)
    with tqdm(total=len(names), desc=progress, unit="image", disable=progress is None) as bar:
        for batch in _batches(zip(names, read, strict=True), batch_size):
            good = [(name, found) for name, found in batch if not isinstance(found, DataError)]
            for name, found in batch:
                if isinstance(found, DataError):
                    if on_corrupt == "error":
                        raise DataError(f"{name}: {found}; --on-corrupt skip goes on without it") from found
                    failures[name] = str(found)
            if good:
                parts.append(model.embed(np.stack([face for _, (face, _) in good]), len(good)))
                paths += [name for name, _ in good]
                faces += [count for _, (_, count) in good]
            bar.update(len(batch))
    if not parts:
        return PhotoEmbeddings((), np.zeros((0, model.dim), np.float32), np.zeros(0, np.float32), _counts([]), failures)
    norms = np.concatenate([part.norms for part in parts])
    unit = _unit(np.concatenate([part.features if flip else part.original for part in parts]), paths)
    return PhotoEmbeddings(tuple(paths), unit, norms, _counts(faces), failures)


def with_quality(found: PhotoEmbeddings, calibration: QualityCalibration) -> PhotoEmbeddings:
    """The same with `quality` by a calibration."""
    quality = calibration.percentile(found.norms)
    return PhotoEmbeddings(found.paths, found.embeddings, found.norms, found.faces, found.failures, quality)


def read_face_of(path: str | Path, find: Finder | None) -> Read:
    """The largest face in a photograph, aligned; without `find`, a file that is an aligned face already.

    Args:
        path: the file.
        find: gives the landmarks of a photograph.

    Returns:
        uint8 (112, 112, 3) RGB, and how many faces there were.

    Raises:
        DataError: unreadable, no face, landmarks that are no face's, or not 112 x 112; does not name the file.
    """
    if find is not None:
        image = read_photo(path)
        points, faces = find(os.fspath(path), image)
        check_points(points, image)
        return align(image, points, SIDE), faces
    encoded = read_image(path)
    if not is_image(encoded):
        image = read_photo(path)
        height, width = image.shape[:2]
    else:  # as the evaluations decode aligned faces, which resizes
        image = decode(encoded, "aligned face", SIDE)
        height = width = image_side(encoded)
    if (height, width) != (SIDE, SIDE):
        raise DataError(
            f"it has {width} x {height} pixels and is no aligned face of {SIDE} x {SIDE}: name a --detector that finds "
            "the face in it"
        )
    return image, 1


def _read_or_reason(path: str, find: Finder | None) -> Read | DataError:
    try:
        return read_face_of(path, find)
    except DataError as error:
        return error


def _batches(items: Any, size: int) -> Iterator[list[tuple[str, Read | DataError]]]:
    while batch := list(islice(items, size)):
        yield batch


def _counts(faces: list[int]) -> np.ndarray:
    return np.array(faces, dtype=np.int64)


def _unit(features: np.ndarray, paths: list[str]) -> np.ndarray:
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    if not lengths.all():
        raise DataError(f"{paths[int(np.argmin(lengths))]}: its feature is zero: the model tells nothing of it")
    return (features / lengths).astype(np.float32)

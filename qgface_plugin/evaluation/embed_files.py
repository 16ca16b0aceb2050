"""Embeddings of image files, however many: decoded by threads, a few batches ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.image_files import read_image
from ..data.images import decode_noting
from ..models import FaceModel
from ..models.embeddings import check_reading
from ..utils.errors import DataError

BATCHES_AHEAD = 4

Face = tuple[np.ndarray | DataError, bool]


@dataclass(frozen=True)
class FileFeatures:
    """Features of N files.

    Attributes:
        features: (N, d) float32, not normalised; zeros in the rows of files that could not be decoded.
        readable: (N,) bool, False in those rows.
        problems: what was wrong with each of them, in order.
        surplus: how many are JPEGs with surplus bytes or without their end marker, which are used.
    """

    features: np.ndarray
    readable: np.ndarray
    problems: tuple[str, ...]
    surplus: int = 0


def embed_files(
    model: FaceModel,
    paths: Sequence[Path],
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 2,
    on_corrupt: str = "error",
    progress: str | None = None,
) -> FileFeatures:
    """Raw features of the aligned faces in files.

    At most `BATCHES_AHEAD` batches of pixels are in memory (38 kB per image), whatever N.

    Args:
        model: the encoder.
        paths: N files.
        flip: add the raw feature of the mirror image (flip fusion); False: the image alone.
        batch_size: images per forward pass.
        workers: threads that decode.
        on_corrupt: "error", or "skip" to go on without the files that cannot be decoded.
        progress: label of a progress bar that counts images; None shows none.

    Raises:
        DataError: no path; a file that cannot be read or decoded, when on_corrupt is "error", or when none can;
            features that are not finite.
        ConfigError: an argument out of range.
    """
    check_reading(batch_size, workers, on_corrupt)
    if not paths:
        raise DataError("there is no image to embed")
    features = np.zeros((len(paths), model.dim), dtype=np.float32)
    readable = np.zeros(len(paths), dtype=bool)
    problems: list[str] = []
    surplus = 0
    with tqdm(total=len(paths), desc=progress, unit="image", disable=progress is None) as bar:
        for start, found in _decoded(paths, batch_size, workers):
            faces = [face for face, _ in found]
            surplus += sum(noted for _, noted in found)
            read = {row: face for row, face in enumerate(faces, start) if not isinstance(face, DataError)}
            good = list(read)
            bad = [face for face in faces if isinstance(face, DataError)]
            if bad and on_corrupt == "error":
                raise bad[0]
            problems += map(str, bad)
            if good:
                images = np.stack(list(read.values()))
                features[good] = _features(model, images, flip, str(paths[good[0]]))
                readable[good] = True
            bar.update(len(faces))
    if not readable.any():
        raise DataError(f"none of {len(paths)} images can be decoded; the first one: {problems[0]}")
    return FileFeatures(features, readable, tuple(problems), surplus)


def embed_with_gallery(
    model: FaceModel, gallery_model: FaceModel, paths: Sequence[Path], enrolled: np.ndarray, **options: Any
) -> FileFeatures:
    """`embed_files` by two models: an encoder was exchanged, and a gallery stays enrolled with the one before.

    Args:
        model: embeds the probes.
        gallery_model: embeds the gallery.
        paths: N files.
        enrolled: (N,) bool, True for the gallery.
        options: as for `embed_files`, the same for both.

    Raises:
        DataError: features of different sizes; as `embed_files`.
    """
    check_comparable(model, gallery_model)
    features = np.zeros((len(paths), model.dim), dtype=np.float32)
    readable = np.zeros(len(paths), dtype=bool)
    problems: list[str] = []
    surplus = 0
    for one, rows in ((gallery_model, np.flatnonzero(enrolled)), (model, np.flatnonzero(~enrolled))):
        part = embed_files(one, [paths[row] for row in rows.tolist()], **options)
        features[rows], readable[rows] = part.features, part.readable
        problems += part.problems
        surplus += part.surplus
    return FileFeatures(features, readable, tuple(problems), surplus)


def check_comparable(model: FaceModel, gallery_model: FaceModel) -> None:
    """DataError when features of both models cannot be compared: they have different sizes."""
    if model.dim != gallery_model.dim:
        raise DataError(
            f"{model.name} gives features of {model.dim} numbers and the gallery's model {gallery_model.name} of "
            f"{gallery_model.dim}: they cannot be compared; enrol the gallery again with {model.name}"
        )


def _features(model: FaceModel, images: np.ndarray, flip: bool, first: str) -> np.ndarray:
    try:
        embeddings = model.embed(images, batch_size=len(images))
    except DataError as error:
        raise DataError(f"{error} (of the batch that begins with {first})") from error
    return embeddings.features if flip else embeddings.original


def _decoded(paths: Sequence[Path], batch: int, workers: int) -> Iterator[tuple[int, list[Face]]]:
    """(number of the first file, what `read_face` has found) of consecutive batches."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[int, list[Future]]] = deque()
        try:
            for start in range(0, len(paths), batch):
                waiting.append((start, [pool.submit(read_face, path) for path in paths[start : start + batch]]))
                if len(waiting) == BATCHES_AHEAD:
                    yield _finished(waiting.popleft())
            while waiting:
                yield _finished(waiting.popleft())
        finally:
            for _, jobs in waiting:
                for job in jobs:
                    job.cancel()


def _finished(batch: tuple[int, list[Future]]) -> tuple[int, list[Face]]:
    return batch[0], [job.result() for job in batch[1]]


def read_face(path: Path) -> Face:
    """The face in a file, uint8 (112, 112, 3) RGB, or what is wrong with it, to be raised or counted; and whether it is
    a JPEG with surplus bytes or without its end marker."""
    try:
        return decode_noting(read_image(path, f"{path}: "), str(path))
    except DataError as error:
        return error, False

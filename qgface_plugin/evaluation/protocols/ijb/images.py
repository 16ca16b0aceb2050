"""Images of IJB: loose crops, aligned by their five landmarks exactly as insightface's tools do it, and a check of the
order of channels on them."""

from __future__ import annotations

import hashlib
import logging
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ....data.image_files import MAX_BYTES, decode_photo, whole_jpeg
from ....data.images import JPEG_SIGNATURE
from ....data.jpeg_surplus import JPEG_END
from ....data.packing.alignment import TEMPLATE, similarity
from ....data.packing.landmark_checks import LARGEST_SCALE, WORST, check_landmarks, fit
from ....models import FaceModel
from ....utils.errors import DataError
from ....utils.files import read_regular
from ....utils.sampling import evenly_spaced
from ...color_order import FEWEST, ColorOrder, check_color_order
from .metadata import IjbImages

LOGGER = logging.getLogger(__name__)

IJB_TEMPLATE = TEMPLATE.copy()
IJB_TEMPLATE[4, 0] = 70.729904  # one float32 above, in both of insightface's IJB tools: a few pixels differ by 1 by it
TRAILER = 4096  # bytes behind a JPEG's end that some programs leave there


def load_faces(
    images: IjbImages, start: int, end: int, pool: Executor, surplus: list[int] | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Aligned faces of consecutive images.

    Args:
        images: of the set.
        start: the first image.
        end: the one after the last.
        pool: threads that read and decode.
        surplus: gets the numbers of JPEGs without their end marker whose pixels are whole.

    Returns:
        uint8 (end - start, 112, 112, 3) RGB, black where an image cannot be used, and what is wrong with each of
        those, by their numbers.
    """
    faces = np.zeros((end - start, 112, 112, 3), dtype=np.uint8)

    def load(index: int) -> str | None:
        try:
            crop, ended = read_crop_noting(_path(images, index))
            faces[index - start] = align_crop(crop, images.landmarks[index])
        except DataError as error:
            return str(error)
        if not ended and surplus is not None:
            surplus.append(index)
        return None

    problems = dict(zip(range(start, end), pool.map(load, range(start, end)), strict=True))
    return faces, {index: problem for index, problem in problems.items() if problem is not None}


def align_crop(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face of a loose crop, uint8 (112, 112, 3); what lies outside the crop is black.

    Args:
        crop: uint8 (h, w, 3).
        landmarks: (5, 2), pixels of the crop.

    Raises:
        DataError: landmarks that give no alignment.
    """
    return cv2.warpAffine(crop, similarity(landmarks, target=IJB_TEMPLATE), (112, 112), borderValue=0.0)


def read_crop(path: Path) -> np.ndarray:
    """A loose crop of any size, uint8 (h, w, 3) RGB, decoded by OpenCV as insightface's tools do.

    Raises:
        DataError: the file is absent, no regular file, too large (see `photo_headers`), cut short or undecodable.
    """
    return read_crop_noting(path)[0]


def read_crop_noting(path: Path) -> tuple[np.ndarray, bool]:
    """`read_crop`, and whether the image, if it is a JPEG, has its end marker within its last TRAILER bytes."""
    try:
        encoded = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    # OpenCV may fill the rest of a JPEG that was cut short with grey and say nothing.
    ended = encoded[:3] != JPEG_SIGNATURE or JPEG_END in encoded[-TRAILER:]
    try:
        return decode_photo(encoded if ended else whole_jpeg(encoded)), ended
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def check_points(images: IjbImages, warn: bool = True) -> None:
    """Refuse landmarks most of which are no face's, as in another order than IJB's; `warn` in the log of a few.

    Raises:
        DataError: says which order they seem to have.
    """
    check_landmarks(images.landmarks, images.names, f"{images.folder}: {images.subset}'s landmarks")
    found = fit(images.landmarks)
    bad = np.flatnonzero((found.residual > WORST) | (np.isfinite(found.scale) & (found.scale > LARGEST_SCALE)))
    if len(bad) and warn:
        LOGGER.warning(
            "%s: the landmarks of %d of %d images fit the template badly, the first %s (%.0f px): no face's",
            images.subset, len(bad), len(images), images.names[bad[0]], found.residual[bad[0]],
        )  # fmt: skip


def check_present(images: IjbImages) -> dict[int, str]:
    """The images whose file is missing, without opening any: number -> what is wrong.

    Raises:
        DataError: there is no folder of images.
    """
    folder = images.folder / "loose_crop"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; it holds the images of {images.subset}")
    there = {entry.name for entry in os.scandir(folder)}
    return {
        index: f"{folder / name}: no such file"
        for index, name in enumerate(images.names)
        if name not in there and not (folder / name).is_file()
    }


def fingerprint(images: IjbImages) -> str:
    """Changes when an image's name, landmarks, size or time of change does: what its feature depends on."""
    folder = images.folder / "loose_crop"
    digest = hashlib.sha256(images.landmarks.tobytes())
    stats = {entry.name: entry.stat() for entry in os.scandir(folder) if entry.is_file()} if folder.is_dir() else {}
    for name in images.names:
        stat = stats.get(name)
        digest.update(os.fsencode(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" if stat else f"{name} absent\n"))
    return digest.hexdigest()


def _path(images: IjbImages, index: int) -> Path:
    return images.folder / "loose_crop" / images.names[index]


def check_color_of_templates(
    model: FaceModel, images: IjbImages, pairs: int = 128, batch_size: int = 64
) -> ColorOrder | None:
    """`check_color_order` on templates sampled over the set: two media of each, and one of it with another template.

    Two templates may be of one person, which makes the check a little less sure and not wrong: both orders see the
    same pairs.

    Args:
        model: the encoder.
        images: of the set; those that cannot be used are not taken.
        pairs: size of the sample; 0: no check.
        batch_size: images per forward pass.

    Returns:
        None when fewer than FEWEST templates have images of two media.
    """
    chosen = _two_media(images)
    if pairs < 1 or len(chosen) < FEWEST:
        return None
    chosen = chosen[evenly_spaced(len(chosen), max(pairs // 2, FEWEST))]
    stranger = np.roll(chosen[:, 0], len(chosen) // 2)
    with ThreadPoolExecutor(max_workers=1) as pool:
        faces = {int(index): _face(images, int(index), pool) for index in np.unique([*chosen.ravel(), *stranger])}
    wanted = [(first, second, True) for first, second in chosen]
    wanted += [(first, other, False) for first, other in zip(chosen[:, 0], stranger, strict=True)]
    found = [(faces[int(a)], faces[int(b)], same) for a, b, same in wanted]
    usable = [(a, b, same) for a, b, same in found if a is not None and b is not None]
    same = np.array([entry[2] for entry in usable], dtype=bool)
    if min(same.sum(), (~same).sum()) < 2:
        return None
    return check_color_order(model, np.stack([face for a, b, _ in usable for face in (a, b)]), same, pairs, batch_size)


def _two_media(images: IjbImages) -> np.ndarray:
    """(T, 2) int64: for each template with images of two media, an image of the first and one of another."""
    first: dict[int, int] = {}
    found: dict[int, tuple[int, int]] = {}
    for index, (template, media) in enumerate(zip(images.templates.tolist(), images.medias.tolist(), strict=True)):
        before = first.setdefault(template, index)
        if template not in found and images.medias[before] != media:
            found[template] = (before, index)
    return np.array(list(found.values()), dtype=np.int64).reshape(-1, 2)


def _face(images: IjbImages, index: int, pool: ThreadPoolExecutor) -> np.ndarray | None:
    faces, problems = load_faces(images, index, index + 1, pool)
    return None if problems else faces[0]

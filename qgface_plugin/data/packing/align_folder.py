"""Alignment of a folder of photographs into a folder of faces with the same sub-folders and names."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from ...utils.errors import ConfigError, DataError
from ...utils.files import atomic_write, write_bytes
from ...utils.outputs import check_output, text_with
from ...utils.parallel import ordered_map
from ..image_files import list_photos, read_photo_noting
from ..images import encode_jpeg, encode_png, surplus_line
from .alignment import align, template
from .detector import Detector
from .landmark_checks import GOOD, TURNED, complaint, fit

FAILURES = "failures.csv"
FORMATS = ("jpg", "png")
MOST = 3  # landmarks outside their image: more than half
FEW = 5  # faces that say nothing about where faces are

# name of an image and its pixels, uint8 (h, w, 3) RGB -> landmarks (5, 2) and how many faces there were;
# DataError, which does not name the image, when there are none
Finder = Callable[[str, np.ndarray], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class AlignOptions:
    """How aligned faces are written.

    Attributes:
        size: side in pixels: 112, 128 or a multiple of these.
        format: "jpg" or "png" (without loss).
        quality: of JPEGs, 1 to 100.
        workers: threads.
        overwrite: align images anew whose result is there already.
    """

    size: int = 112
    format: str = "jpg"
    quality: int = 95
    workers: int = 2
    overwrite: bool = False

    def __post_init__(self) -> None:
        template(self.size)
        if self.format not in FORMATS:
            raise ConfigError(f"format is {self.format!r}; it is one of {FORMATS}")
        for name, value, high in (("quality", self.quality, 100), ("workers", self.workers, 256)):
            if not 1 <= value <= high:
                raise ConfigError(f"{name} is {value}; it is a whole number from 1 to {high}")


@dataclass(frozen=True)
class AlignReport:
    """What was aligned.

    Attributes:
        images: photographs looked at, and paths of landmarks without a photograph.
        aligned: faces written now.
        already: faces that were there from an earlier run.
        several_faces: images with more than one face, of which the largest was taken.
        failures: (path, reason) of all others; `failures.csv` in the output folder has them too.
        warnings: one line for each thing that many faces have and few should.
    """

    images: int
    aligned: int
    already: int
    several_faces: int
    failures: list[tuple[str, str]]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A face that was written.

    Attributes:
        faces: in the photograph.
        surplus: whether the photograph is a JPEG with surplus bytes.
        residual, angle: how its landmarks fit the template (see `landmark_checks`).
        corner: whether they all lie in the upper left quarter.
    """

    faces: int
    surplus: bool
    residual: float
    angle: float
    corner: bool


def given_landmarks(landmarks: dict[str, np.ndarray]) -> Finder:
    """Looks the landmarks up by the image's path relative to the folder, with `/` or backslashes in it.

    All NaN stands for none.
    """

    def find(name: str, image: np.ndarray) -> tuple[np.ndarray, int]:
        given = name if name in landmarks else name.replace("/", "\\")
        if given not in landmarks:
            raise DataError("no landmarks are given for it")
        if np.isnan(landmarks[given]).all():
            raise DataError("it is listed without landmarks: was no face found in it?")
        return landmarks[given], 1

    return find


def largest_face(detect: Detector) -> Finder:
    """Takes the landmarks of the face whose box has the largest area."""

    def find(name: str, image: np.ndarray) -> tuple[np.ndarray, int]:
        boxes, points = detect(image)
        if len(boxes) == 0:
            raise DataError("no face found")
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return points[int(np.argmax(areas))], len(boxes)

    return find


def align_folder(
    folder: str | Path,
    output: str | Path,
    find: Finder,
    options: AlignOptions,
    expected: set[str] | None = None,
    progress: bool = False,
) -> AlignReport:
    """Align every photograph under `folder` into `output`.

    An image that cannot be aligned is a failure, listed and counted, and stops nothing. A run that was interrupted
    goes on where it was: faces that are there are kept.

    Args:
        folder: of the photographs, at any depth.
        output: of the faces; must not lie in `folder`, nor `folder` in it.
        find: gives the landmarks of an image.
        options: how faces are written.
        expected: paths that should be there; those without a photograph are failures.
        progress: show a progress bar.

    Raises:
        ConfigError: output and folder are one in the other; two photographs would get one name; the output has a
            `failures.csv` that is no list of failures.
        DataError: no such folder, or no photograph in it.
    """
    folder, output = Path(folder), Path(output)
    inner, outer = output.resolve(), folder.resolve()
    if inner == outer or inner in outer.parents or outer in inner.parents:
        raise ConfigError(f"{output} and {folder} are one in the other: choose an output folder beside the photographs")
    names = list_photos(folder)
    targets = {name: PurePosixPath(name).with_suffix(f".{options.format}").as_posix() for name in names}
    twice = [target for target, count in Counter(targets.values()).items() if count > 1]
    if twice:
        sources = ", ".join(name for name, target in targets.items() if target == twice[0])
        raise ConfigError(
            f"{len(twice)} files would be written twice, the first {twice[0]} from {sources}; rename them"
        )
    check_output(output / FAILURES, text_with(["path,reason"], (".csv",), "list of failures"))
    output.mkdir(parents=True, exist_ok=True)

    def work(name: str) -> _Aligned | str | None:
        target = output / targets[name]
        if target.exists() and not options.overwrite:
            return None
        try:
            image, surplus = read_photo_noting(folder / name)
            points, faces = find(name, image)
            check_points(points, image)
            face = align(image, points, options.size)
        except DataError as error:
            return str(error)
        write_bytes(target, encode_png(face) if options.format == "png" else encode_jpeg(face, options.quality))
        found = fit(points[None])
        corner = bool((points.max(axis=0) < np.array(image.shape[1::-1]) / 2).all())
        return _Aligned(faces, surplus, float(found.residual[0]), float(found.angle[0]), corner)

    there = set(names)
    missing = sorted(name for name in expected or () if not {name, name.replace("\\", "/")} & there)
    failures = [(name, "landmarks are given, but there is no such image") for name in missing]
    done: dict[str, _Aligned] = {}
    already = 0
    results = ordered_map(work, names, options.workers)
    bar = tqdm(results, total=len(names), desc="aligning", unit="image", disable=not progress)
    for name, result in zip(names, bar, strict=True):
        if isinstance(result, str):
            failures.append((name, result))
            continue
        if result is None:
            already += 1
        else:
            done[name] = result
    _list_failures(output, failures)
    several = sum(face.faces > 1 for face in done.values())
    images = len(names) + len(missing)
    return AlignReport(images, len(done), already, several, failures, list(_warnings(done)))


def check_points(points: np.ndarray, image: np.ndarray) -> None:
    """Refuse landmarks of another image, of another size of this one, in other units or in another order.

    Args:
        points: (5, 2), x and y in pixels.
        image: uint8 (h, w, 3).

    Raises:
        DataError: they are; does not name the image.
    """
    height, width = image.shape[:2]
    reason = complaint(points)
    if reason is not None:
        raise DataError(reason)
    outside = int(((points < 0).any(axis=1) | (points[:, 0] >= width) | (points[:, 1] >= height)).sum())
    if outside >= MOST:
        which = "all landmarks" if outside == len(points) else f"{outside} of {len(points)} landmarks"
        raise DataError(
            f"{which} lie outside the image of {width} x {height} pixels: are they of another image, or of another "
            "size of this one?"
        )


def _warnings(done: dict[str, _Aligned]) -> Iterator[str]:
    """What many faces have and few should; each is possible, and all of them in most faces are not."""
    if surplus := sum(face.surplus for face in done.values()):
        yield surplus_line(surplus)
    poor = [name for name, face in done.items() if face.residual > GOOD]
    if poor:
        yield (
            f"{len(poor)} of {len(done)} faces fit the template badly (more than {GOOD:.0f} px), the first {poor[0]} "
            f"({done[poor[0]].residual:.0f} px): faces in profile do, and so do wrong landmarks; look at them"
        )
    turned = [name for name, face in done.items() if abs(face.angle) > TURNED]
    if 2 * len(turned) > len(done):
        yield (
            f"{len(turned)} of {len(done)} faces are turned by more than {TURNED:.0f} degrees, the first {turned[0]}: "
            "if the photographs are upright, the landmarks have another order, or y is counted from the lower edge"
        )
    corner = sum(face.corner for face in done.values())
    if len(done) >= FEW and corner > 0.9 * len(done):
        yield (
            f"{corner} of {len(done)} faces lie in the upper left quarter of their photographs: are the landmarks of "
            "smaller copies?"
        )


def _list_failures(output: Path, failures: list[tuple[str, str]]) -> None:
    (output / FAILURES).unlink(missing_ok=True)
    if failures:
        with atomic_write(output / FAILURES, "w") as file:
            csv.writer(file).writerows([("path", "reason"), *failures])

"""Packing of faces into RecordIO: which images are packed, and which label each identity gets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ...utils.errors import ConfigError, DataError
from ...utils.files import write_text
from ...utils.outputs import check_no_input
from ...utils.parallel import ordered_map
from ..identity_names import IDENTITIES
from ..image_files import FaceFile, image_side
from ..images import is_image
from .faces import Face, FaceList
from .record_set import MAX_INSIGHTFACE, PackedFace, PackOptions, write_record_set

LEFT_OUT = "left_out.tsv"
WRITTEN = ("train.idx", "train.lst", "identities.tsv", "property")  # beside train.rec

Problems = list[tuple[str, str]]  # path, reason


@dataclass(frozen=True)
class PackReport:
    """What was packed.

    Attributes:
        folder, style: where, and in which layout.
        images, identities: how many are in the file.
        as_they_were: images whose bytes went in unchanged.
        resized: images of another side, resized and encoded anew.
        left_out: images and identities not packed; `left_out.tsv` in the folder lists them.
        surplus: JPEGs with surplus bytes or without their end marker; their pixels are whole.
        single_image_identities: identities with one image, which give no pair of two different images.
        bytes: size of `train.rec`.
    """

    folder: str
    style: str
    images: int
    identities: int
    as_they_were: int
    resized: int
    left_out: int
    surplus: int
    single_image_identities: int
    bytes: int


def pack_faces(found: FaceList, folder: str | Path, options: PackOptions, progress: bool = False) -> PackReport:
    """Write a record set. Labels are 0 to identities - 1 in the order of the sorted identities.

    Every image is decoded once before anything is written. `identities.tsv` says which label an identity has become.
    The files appear under their names only when they are complete.

    Args:
        found: what to pack.
        folder: made where there is none.
        options: how.
        progress: show progress bars.

    Raises:
        ConfigError: a record set is there already, or the list of another one; or a list that is read would be
            written over.
        DataError: images that cannot be packed, counted and listed in `left_out.tsv`; too many images for the layout;
            nothing left to pack.
    """
    folder = Path(folder)
    check_free(folder, options.overwrite)
    for name in (*WRITTEN, LEFT_OUT):
        check_no_input(folder / name, found.lists)
    fitting, surplus, problems = _check(found, options, progress)
    if problems and options.on_corrupt == "error":
        _list_left_out(folder, problems)
        first = "".join(f"\n  {path}: {reason}" for path, reason in problems[:3])
        raise DataError(
            f"{len(problems)} of {len(found.faces) + len(found.problems)} inputs cannot be packed, all listed in "
            f"{folder / LEFT_OUT}; correct them, or leave them out with --on-corrupt skip. The first:{first}"
        )
    images = Counter(face.identity for face, _ in fitting)
    few = {identity for identity, count in images.items() if count < options.min_images}
    problems += [
        (face.path, f"its identity has fewer than {options.min_images} images")
        for face, _ in fitting
        if face.identity in few
    ]
    fitting = [(face, fits) for face, fits in fitting if face.identity not in few]
    _list_left_out(folder, problems)
    if not fitting:
        raise DataError(f"nothing left to pack: all {len(problems)} inputs are left out, see {folder / LEFT_OUT}")
    labels = _label_of([face for face, _ in fitting])
    if options.style == "insightface" and len(fitting) + len(labels) > MAX_INSIGHTFACE:
        raise DataError(
            f"{len(fitting)} images of {len(labels)} identities: InsightFace's header record counts in float32, which "
            f"is exact up to {MAX_INSIGHTFACE} of both together; use --style im2rec, or pack several folders and name "
            "them all in the recipe"
        )
    packed = [PackedFace(face, labels[face.identity], fits) for face, fits in fitting]
    beside = {
        IDENTITIES: "".join(f"{label}\t{name}\n" for (_, name), label in labels.items()),
        "property": f"{len(labels)},{options.size},{options.size}",
    }
    size = write_record_set(folder, packed, options, beside, progress)
    as_they_were = sum(face.fits for face in packed)
    return PackReport(
        folder=str(folder),
        style=options.style,
        images=len(packed),
        identities=len(labels),
        as_they_were=as_they_were,
        resized=len(packed) - as_they_were,
        left_out=len(problems),
        surplus=sum(face.identity not in few for face in surplus),
        single_image_identities=sum(images[identity] == 1 for identity in labels),
        bytes=size,
    )


def check_free(folder: Path, overwrite: bool) -> None:
    """Make the folder of a record set that is to be written.

    Raises:
        ConfigError: a record set is there, and is not to be replaced.
    """
    if (folder / "train.rec").exists() and not overwrite:
        raise ConfigError(f"{folder / 'train.rec'} is there already: choose another folder, or --overwrite")
    folder.mkdir(parents=True, exist_ok=True)


def side_of(found: FaceList) -> int:
    """Side in pixels of the first image that a store has; 112 where none can be looked at."""
    for face in found.faces:
        try:
            encoded = b"" if face.store is None else face.store.read(face.at)
        except DataError:
            continue
        if is_image(encoded):
            return image_side(encoded)
    return 112


def _check(
    found: FaceList, options: PackOptions, progress: bool
) -> tuple[list[tuple[Face, bool]], list[Face], Problems]:
    """The faces that can be packed, each with whether it fits as it is; those of them that carry surplus bytes; and
    the problems of all others."""

    def check(face: Face) -> FaceFile | str:
        try:
            return face.check(options.size)
        except DataError as error:
            return str(error).removeprefix(f"{face.path}: ")

    fitting, surplus, problems = [], [], list(found.problems)
    results = ordered_map(check, found.faces, options.workers)
    bar = tqdm(results, total=len(found.faces), desc="checking", unit="image", disable=not progress)
    for face, result in zip(found.faces, bar, strict=True):
        if isinstance(result, str):
            problems.append((face.path, result))
        else:
            fitting.append((face, result.fits or options.as_they_are))
            if result.surplus:
                surplus.append(face)
    return fitting, surplus, problems


def _label_of(faces: list[Face]) -> dict[tuple[int, str], int]:
    """Identity -> label, sorted by source and then by name; names that are all numbers, as in lists, by number."""
    identities = {face.identity for face in faces}
    if all(name.isdecimal() for _, name in identities):
        ordered = sorted(identities, key=lambda identity: (identity[0], int(identity[1]), identity[1]))
    else:
        ordered = sorted(identities)
    return {identity: label for label, identity in enumerate(ordered)}


def _list_left_out(folder: Path, problems: Problems) -> None:
    (folder / LEFT_OUT).unlink(missing_ok=True)
    if problems:
        write_text(folder / LEFT_OUT, "".join(f"{path}\t{reason}\n" for path, reason in problems))

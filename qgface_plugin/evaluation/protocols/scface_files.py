"""SCface (Grgic, Delac, Grgic 2011) as aligned files: 130 subjects, 5 cameras x 3 distances against a frontal photo.

all.txt           one image per line, `<name>` or `<name> TAB <label>`; optional
aligned/          001_frontal.jpg (gallery), 001_cam1_1.jpg ... 001_cam5_3.jpg (probes: camera, distance, 1 farthest),
                  also in the sub-folders in which SCface is distributed (surveillance_cameras_distance_1/cam_1/, ...)

Cameras 6 to 8 are infrared; the protocol leaves them out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from ...data.sources.folder import SUFFIXES
from ...utils.errors import DataError
from ...utils.text import fields_of, read_lines, whole_number
from .aligned_files import images_by_name
from .inventory import Inventory, listed

SUBJECTS, CAMERAS, DISTANCES = 130, (1, 2, 3, 4, 5), (1, 2, 3)
NAME = re.compile(r"([0-9]{1,9})_(?:frontal|cam([1-5])_([1-3]))")
INFRARED = re.compile(r"[0-9]+_cam(?:[67]_[1-3]|8)")


@dataclass(frozen=True)
class ScfaceSet:
    """The files of SCface.

    Attributes:
        gallery: G frontal images.
        gallery_ids: (G,) int, subjects.
        probes: P images of the cameras.
        probe_ids: (P,) int, subjects.
        cameras: (P,) int, 1 to 5.
        distances: (P,) int, 1 (4.2 m) to 3 (1 m).
        inventory: how the files differ from the protocol.
    """

    gallery: list[Path]
    gallery_ids: np.ndarray
    probes: list[Path]
    probe_ids: np.ndarray
    cameras: np.ndarray
    distances: np.ndarray
    inventory: Inventory


def read_scface(root: str | Path, subjects: str | Path | None = None) -> ScfaceSet:
    """The images of `root`, which holds `aligned/` or is itself that folder; only those that all.txt names, if any.

    Args:
        root: folder of the set.
        subjects: text file with one subject's number per line, such as the 80 that are left to test on after
            fine-tuning on 50; None: all.

    Raises:
        DataError: no such folder, no gallery or no probe, one image in two files, or a subjects file that is no list
            of numbers.
    """
    root = Path(root)
    folder = root / "aligned" if (root / "aligned").is_dir() else root
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder that holds aligned/ with SCface's aligned faces")
    inventory = Inventory()
    files = images_by_name(folder, inventory, NAME.fullmatch)
    wanted = _subjects(Path(subjects)) if subjects is not None else None
    listing = root / "all.txt"
    names = _lines(listing) if listing.is_file() else dict.fromkeys(files)
    unlisted = [n for n in files if n not in names and _ours(n, wanted)]
    unfound = [n for n in names if n not in files and _ours(n, wanted)]
    inventory.name("surplus", unlisted, "{} images that are not in all.txt are left out")
    inventory.name("missing", unfound, f"{{}} images of all.txt are not in {folder.name}/")
    infrared = {n for n in files if INFRARED.fullmatch(n)}
    inventory.counts["infrared, left out"] = {"protocol": 0, "here": len(infrared)}
    unknown = [n for n in dict.fromkeys([*files, *names]) if not NAME.fullmatch(n) and not INFRARED.fullmatch(n)]
    inventory.name("unknown", unknown, "{} names are none of the protocol's and are left out")
    files = {name: path for name, path in files.items() if name in names}
    parsed = sorted((_parse(name), path) for name, path in files.items() if _ours(name, wanted))
    for (key, path), (following, other) in pairwise(parsed):
        if key == following:
            raise DataError(f"{path} and {other} are one image in two files; keep one of them")
    gallery = [(subject, path) for (subject, camera, _), path in parsed if camera == 0]
    probes = [(*key, path) for key, path in parsed if key[1]]
    if not gallery or not probes:
        raise DataError(
            f"{folder}: {len(gallery)} frontal images and {len(probes)} of the cameras; expected names are "
            "001_frontal.jpg and 001_cam1_1.jpg, in aligned/ or in sub-folders of it"
        )
    _compare(inventory, [s for s, _ in gallery], [p[:3] for p in probes], wanted)
    subject, camera, distance = np.array([probe[:3] for probe in probes]).T
    return ScfaceSet(
        [path for _, path in gallery], np.array([s for s, _ in gallery]), [probe[3] for probe in probes],
        subject, camera, distance, inventory,
    )  # fmt: skip


def _compare(
    inventory: Inventory, gallery: list[int], probes: list[tuple[int, int, int]], wanted: set[int] | None
) -> None:
    """Against the protocol: subjects, frontal images, probes of each distance, and each missing image by name."""
    present = set(gallery) | {subject for subject, _, _ in probes}
    subjects = SUBJECTS if wanted is None else len(wanted)
    inventory.count("subjects", subjects, len(present))
    inventory.count("gallery images", subjects, len(gallery))
    for d in DISTANCES:
        here = sum(distance == d for _, _, distance in probes)
        inventory.count(f"probes at d{d}", subjects * len(CAMERAS), here)
    if wanted is not None:
        absent = sorted(wanted - present)
        inventory.name(
            "absent subjects", [f"{s:03d}" for s in absent], "{} subjects of the subjects file have no image"
        )
    expected = {(subject, c, d) for subject in present for c in CAMERAS for d in DISTANCES}
    missing = [f"{s:03d}_cam{c}_{d}" for s, c, d in sorted(expected - set(probes))]
    inventory.name("missing probes", missing, "{} camera images of these subjects are missing")
    no_mate = [f"{s:03d}" for s in sorted(present - set(gallery))]
    inventory.name("no frontal image", no_mate, "{} subjects have no frontal image, so the rates are without them")


def _lines(path: Path) -> dict[str, None]:
    """First column of a text file, without suffixes, in order; a name that is there twice is an error."""
    names: dict[str, None] = {}
    for number, line in read_lines(path, "list"):
        name = PurePosixPath(fields_of(line)[0].strip('"').replace("\\", "/")).name
        name = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
        if name in names:
            raise DataError(f"{path} line {number}: {name} is listed twice; keep one of the lines")
        names[name] = None
    return names


def _subjects(path: Path) -> set[int]:
    words = [word for _, line in read_lines(path, "list") if (word := line.split("#")[0].strip().strip('"'))]
    found = {word: whole_number(word) for word in words}
    bad = [word for word, number in found.items() if number is None or number < 0]
    numbers = {number for number in found.values() if number is not None}
    if bad or not numbers:
        raise DataError(
            f"{path}: one subject's number per line is expected, such as 001; found {listed(bad) or 'none'}"
        )
    return numbers


def _ours(name: str, wanted: set[int] | None) -> bool:
    """Whether `name` is an image of the protocol, of a subject that is wanted."""
    found = NAME.fullmatch(name)
    return found is not None and (wanted is None or int(found[1]) in wanted)


def _parse(name: str) -> tuple[int, int, int]:
    """Subject, camera and distance; camera and distance of a frontal image are 0."""
    found = NAME.fullmatch(name)
    assert found is not None  # `_ours` has chosen the names
    return int(found[1]), int(found[2] or 0), int(found[3] or 0)

"""Data set of procedural faces, for a machine without data: InsightFace's files, and a pair set to verify on.

A demonstration and a test bed, not a face data set: `procedural_face.py` says what the drawings are and are not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import ConfigError, DataError
from ...utils.files import write_text
from ...utils.folder_lock import FolderLock
from ...utils.text import read_json
from ..bin_files import write_bin
from ..images import encode_jpeg
from ..recordio import RecordWriter
from ..recordio.identities import write_faces
from ..recordio.lst import list_line
from .face import draw_face

DRAWING = 2  # raised whenever the same seeds give other pictures, so that old sets are made anew
JPEG_QUALITY = 95
MARKER = "procedural.json"
PAIRS_PER_IDENTITY = 4  # of the pair set; at least two identities
UNSEEN = 1 << 31  # identities from here on are in the pair set only

LOGGER = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def write_dataset(
    folder: str | Path,
    identities: int,
    images_per_identity: int,
    pairs: int,
    seed: int,
    progress: Progress | None = None,
    pairs_name: str = "procedural_dev",
) -> Path:
    """Write `train.rec`, `train.idx`, `train.lst`, `property` and `<pairs_name>.bin` of procedural faces.

    Everything follows from the arguments. A complete set of the same arguments is left as it is; anything else that
    an earlier call wrote is replaced.

    Args:
        folder: made when it does not exist.
        identities: persons in the training set, at least 2.
        images_per_identity: pictures of each, at least 1.
        pairs: pairs in the pair set, at least 2; half of them of one person, none of whom is in the training set.
        seed: in [0, 2**32).
        progress: called as progress(done, total) after every picture.
        pairs_name: the pair set's name.

    Returns:
        The folder.

    Raises:
        ConfigError: a number out of range, or a `train.rec` in the folder that did not come from here.
    """
    for name, value, low in (
        ("identities", identities, 2),
        ("images_per_identity", images_per_identity, 1),
        ("pairs", pairs, 2),
        ("seed", seed, 0),
    ):
        if value < low:
            raise ConfigError(f"procedural faces: {name} is {value}; it must be at least {low}")
    if seed >= 2**32:
        raise ConfigError(f"procedural faces: seed is {seed}; it must be below 2**32")
    folder = Path(folder)
    asked = {
        "drawing": DRAWING,
        "identities": identities,
        "images_per_identity": images_per_identity,
        "pairs": pairs,
        "seed": seed,
        "pairs_name": pairs_name,
    }
    marker = folder / MARKER
    if _complete(marker, asked):
        LOGGER.info("procedural faces in %s are complete: nothing to draw", folder)
        return folder
    with FolderLock(folder, wait=True):  # others that draw the same wait, and find it complete then
        if not _complete(marker, asked):
            _draw(folder, asked, progress)
    return folder


def _draw(folder: Path, asked: Mapping[str, Any], progress: Progress | None) -> None:
    """Write the set that is `asked` for over what an earlier call has left."""
    identities, images_per_identity, pairs = (asked[name] for name in ("identities", "images_per_identity", "pairs"))
    seed, pairs_name, marker = asked["seed"], asked["pairs_name"], folder / MARKER
    if (folder / "train.rec").exists() and not marker.exists():
        raise ConfigError(f"{folder}: its train.rec was not made of procedural faces; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    names, new = ("train.rec", "train.idx", "train.lst", "property", f"{pairs_name}.bin"), not marker.exists()
    _write_marker(marker, {"complete": False})
    images = identities * images_per_identity
    count = _Counter(images + 2 * pairs, progress)
    try:
        _write_records(folder, identities, images_per_identity, seed, count)
        _write_pairs(folder / f"{pairs_name}.bin", pairs, seed, count)
    except BaseException:  # also a signal: the folder is as it was
        for name in (MARKER, *names) if new else ():
            (folder / name).unlink(missing_ok=True)
        raise
    sizes = {name: (folder / name).stat().st_size for name in names}
    _write_marker(marker, {"complete": True, "arguments": asked, "bytes": sizes})


class _Counter:
    """Draws and encodes, and reports how many pictures are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress, self.done = total, progress, 0

    def jpeg(self, identity_seed: int, image_seed: int) -> bytes:
        encoded = encode_jpeg(draw_face(identity_seed, image_seed), JPEG_QUALITY)
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
        return encoded


def _write_records(folder: Path, identities: int, each: int, seed: int, count: _Counter) -> None:
    labels = np.repeat(np.arange(identities), each)
    drawn = ((n, count.jpeg(_identity_seed(seed, n // each), n % each)) for n in range(len(labels)))
    with RecordWriter(folder / "train.rec") as writer:
        write_faces(writer, labels, drawn)
    lines = (list_line(f"person_{n // each:05d}/{n % each:04d}.jpg", n // each) for n in range(len(labels)))
    write_text(folder / "train.lst", "".join(lines))
    write_text(folder / "property", f"{identities},112,112\n")


def _write_pairs(path: Path, pairs: int, seed: int, count: _Counter) -> None:
    """Pairs of unseen persons, alternately of one and of two, each of pictures that no other pair has."""
    people = max(2, pairs // PAIRS_PER_IDENTITY)
    images = []
    for number in range(pairs):
        turn = number // 2
        first = turn % people
        second = first if number % 2 == 0 else (first + 1 + turn // people % (people - 1)) % people
        for picture, person in enumerate((first, second)):
            images.append(count.jpeg(_identity_seed(seed, UNSEEN + person), 2 * number + picture))
    write_bin(path, images, [number % 2 == 0 for number in range(pairs)])


def _identity_seed(seed: int, identity: int) -> int:
    return seed << 32 | identity


def _complete(marker: Path, asked: dict[str, Any]) -> bool:
    """Whether the marker says that just these files are all there, and they are."""
    try:
        said = read_json(marker, "record of what was drawn")
    except DataError:
        return False
    if not isinstance(said, dict) or not said.get("complete") or said.get("arguments") != asked:
        return False
    sizes = said.get("bytes")
    if not isinstance(sizes, dict):
        return False
    files = {marker.parent / name: size for name, size in sizes.items()}
    return all(path.exists() and path.stat().st_size == size for path, size in files.items())


def _write_marker(marker: Path, said: dict[str, Any]) -> None:
    write_text(marker, json.dumps(said, indent=1) + "\n")

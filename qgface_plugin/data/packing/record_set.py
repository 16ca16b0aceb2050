"""The two layouts of a record set, and the files beside the records.

InsightFace's: record 0 holds no image but, as two labels, [N + 1, N + 1 + identities]; images are the keys 1 to N,
identity after identity; the records from N + 1 on hold the key range [first, last + 1] of each identity.
im2rec's: nothing but images, under the keys of a list or 0 to N - 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...utils.errors import ON_CORRUPT, ConfigError
from ...utils.parallel import ordered_map
from ..image_files import QUALITY, load_face
from ..recordio import Header, RecordWriter, pack
from ..recordio.labels import LABEL_LIMIT
from .faces import Face
from .lst import im2rec_line, list_line

MAX_INSIGHTFACE = (1 << 24) - 1  # images and identities together: the header's 1 + that must be exact in float32


@dataclass(frozen=True, slots=True)
class PackedFace:
    """A face with its dense label; `fits` tells whether its file's bytes go in as they are."""

    face: Face
    label: int
    fits: bool


def write_record_set(folder: Path, faces: list[PackedFace], options: PackOptions, progress: bool = False) -> int:
    """Write `train.rec`, `train.idx` and `train.lst`; returns the size of the first in bytes.

    Labels must be dense. An image that was sound when checked and is not any more is a DataError; nothing is left
    behind then but what was there before.
    """
    insightface = options.style == "insightface"
    if insightface or any(face.face.key is None for face in faces):
        faces = sorted(faces, key=lambda face: face.label)
        keys = range(1, len(faces) + 1) if insightface else range(len(faces))
    else:
        keys = [face.face.key for face in faces]
    order = range(len(faces))
    if options.shuffle is not None:
        order = np.random.default_rng(options.shuffle).permutation(len(faces)).tolist()

    def load(row: int) -> bytes:
        return load_face(faces[row].face.path, options.size, options.quality)

    images = ordered_map(load, order, options.workers)
    bar = tqdm(images, total=len(faces), desc="writing", unit="image", disable=not progress)
    with RecordWriter(folder / "train.rec") as writer:
        ranges = list(_identity_ranges(faces)) if insightface else []
        if insightface:
            header = [len(faces) + 1, len(faces) + 1 + len(ranges)]
            writer.write(0, pack(Header(0, header, 0, 0), b""))
        for row, image in zip(order, bar, strict=True):
            face = faces[row]
            label = [face.label, *face.face.more] if face.face.more and not insightface else float(face.label)
            writer.write(keys[row], pack(Header(0, label, keys[row], 0), image))
        for key, limits in enumerate(ranges, start=len(faces) + 1):
            writer.write(key, pack(Header(0, limits, key, 0), b""))
    if insightface:
        write_text(folder / "train.lst", (list_line(face.face.name, face.label) for face in faces))
    else:
        write_text(
            folder / "train.lst",
            (im2rec_line(keys[row], (faces[row].label, *faces[row].face.more), faces[row].face.name) for row in order),
        )
    return (folder / "train.rec").stat().st_size


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Write a text file that appears under its name only when it is complete."""
    partial = path.with_name(path.name + ".part")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    os.replace(partial, path)


def _identity_ranges(faces: list[PackedFace]) -> Iterator[list[int]]:
    """[first key, last key + 1] of each identity, of faces sorted by label whose keys begin at 1."""
    first = 1
    for key in range(2, len(faces) + 2):
        if key > len(faces) or faces[key - 1].label != faces[key - 2].label:
            yield [first, key]
            first = key


# --- How faces are packed: the options of `packing`, checked ----------------------------------------------------------


STYLES = ("insightface", "im2rec")


@dataclass(frozen=True)
class PackOptions:
    """How faces are packed.

    Attributes:
        style: "insightface" writes the header record 0 and a record with the key range of every identity, images are
            keys 1 to N, identity after identity. "im2rec" writes images only, with the keys of an im2rec list or
            0 to N - 1.
        size: side of the packed images in pixels.
        quality: of the JPEGs that images of another side become, 1 to 100.
        shuffle: seed of a random order of the images within the file, for readers that read straight through; keys
            and labels stay what they are. None keeps the order of the keys.
        min_images: identities with fewer images are left out.
        on_corrupt: "error" refuses to pack when an image cannot be packed, "skip" leaves such images out.
        workers: threads.
        overwrite: replace a `train.rec` that is there.
    """

    style: str = "insightface"
    size: int = 112
    quality: int = QUALITY
    shuffle: int | None = None
    min_images: int = 1
    on_corrupt: str = "error"
    workers: int = 2
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (("style", self.style, STYLES), ("on_corrupt", self.on_corrupt, ON_CORRUPT)):
            if value not in known:
                raise ConfigError(f"{name} is {value!r}; it is one of {known}")
        for name, value, low, high in (
            ("size", self.size, 1, 1024),
            ("quality", self.quality, 1, 100),
            ("min_images", self.min_images, 1, LABEL_LIMIT),
            ("workers", self.workers, 1, 256),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it is a whole number from {low} to {high}")
        if self.shuffle is not None and self.shuffle < 0:
            raise ConfigError(f"shuffle is {self.shuffle}; the seed is a whole number >= 0")

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

from ..utils.parallel import ordered_map
from .face_files import load_face
from .face_lists import Face
from .list_files import im2rec_line, list_line
from .pack_options import PackOptions
from .recordio import Header, RecordWriter, pack

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

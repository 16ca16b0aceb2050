"""Inspection of data: what a folder that a recipe may name holds, and whether all of a record set is sound."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...utils.errors import DataError
from ...utils.listing import files_in, unpacked
from ...utils.parallel import ordered_map
from ...utils.text import read_text
from ..bin_files import read_bin
from ..image_files import image_side
from ..images import PNG_SIGNATURE, decode_noting
from ..recordio import RecordReader
from ..recordio.identities import layout_of, read_header
from ..sources.folder import FaceFolder
from ..sources.records import FaceRecords, record_files

BINS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # lower ends, images per identity


@dataclass(frozen=True)
class Soundness:
    """What reading every image has shown.

    Attributes:
        encodings: "JPEG", "PNG" -> images.
        sides: side in pixels -> images; all are square.
        repeated: images whose bytes are those of an earlier one.
        repeated_elsewhere: of those, the ones whose earlier one is of another identity.
        problems: one line for each image that cannot be used; file, key and offset are in it.
        surplus: JPEGs with surplus bytes or without their end marker; their pixels are whole.
    """

    encodings: dict[str, int]
    sides: dict[int, int]
    repeated: int
    repeated_elsewhere: int
    problems: list[str]
    surplus: int = 0


@dataclass(frozen=True)
class Inspection:
    """What is in a record set.

    Attributes:
        files: path -> layout, as `layout_of` tells it, and size in bytes.
        images: how many images there are.
        num_classes: identities that the files announce, or 1 + the largest label.
        identities: identities that have an image.
        images_per_identity: "min", "median", "mean", "max".
        histogram: "5-9" -> identities with so many images.
        problems: what contradicts itself in headers, ranges and labels.
        soundness: None when images were not read.
    """

    files: dict[str, dict[str, Any]]
    images: int
    num_classes: int
    identities: int
    images_per_identity: dict[str, float]
    histogram: dict[str, int]
    problems: list[str] = field(default_factory=list)
    soundness: Soundness | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with what was looked at."""
        return not self.problems and (self.soundness is None or not self.soundness.problems)


def inspect_records(root: str | Path, read_images: bool = True, workers: int = 2, progress: bool = False) -> Inspection:
    """Look at a folder of record files or at one file.

    Args:
        root: the folder or the file.
        read_images: read and decode every image too.
        workers: threads that do so.
        progress: show a progress bar.

    Raises:
        DataError: files that cannot be opened as a record set at all (see `FaceRecords`), or no record can be read.
    """
    paths = record_files([root])
    source = FaceRecords(root, on_corrupt="skip")
    labels, problems = _labels(source)
    files = {}
    for path in paths:
        layout, contradictions = layout_of(path, partial(_labels_of, path))
        files[str(path)] = {"layout": layout, "bytes": path.stat().st_size}
        problems += contradictions
    readable = labels[labels >= 0]
    counts = np.bincount(readable, minlength=source.num_classes)
    absent = int(np.count_nonzero(counts[: source.num_classes] == 0))
    if absent:
        problems.append(f"{absent} of {source.num_classes} labels have no image, the first {int(np.argmin(counts))}")
    counts = counts[counts > 0]
    return Inspection(
        files=files,
        images=len(source),
        num_classes=source.num_classes,
        identities=len(counts),
        images_per_identity={
            "min": int(counts.min()),
            "median": float(np.median(counts)),
            "mean": float(counts.mean()),
            "max": int(counts.max()),
        },
        histogram=dict(_histogram(counts)),
        problems=problems,
        soundness=_read_all(source, labels, workers, progress) if read_images else None,
    )


def data_found(folder: Path) -> dict[str, str]:
    """Facts about a folder that `config.rec` may name: its layout, images, identities, `property`, pair sets.

    Every label is read and the first image looked at.

    Returns:
        what -> in words, for people.

    Raises:
        DataError: what training would refuse.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    folder = unpacked(folder, ".rec")
    records = [path.name for path in files_in(folder, ".rec")]
    source: FaceRecords | FaceFolder
    if records:
        source = FaceRecords(folder)
        source.check(every=True)
    else:
        source = FaceFolder(folder)
    source.read(0)
    facts = {
        "folder": str(folder.resolve()),
        "layout": _records_layout(folder, records) if records else "image folders, one per identity",
        "images": str(len(source)),
        "identities": str(source.num_classes),
    }
    if (folder / "property").is_file():
        facts["property"] = read_text(folder / "property", "number of classes").strip()
    for path in files_in(folder, ".bin"):
        pairs = read_bin(path)
        facts[path.name] = f"{len(pairs.same)} pairs, {int(pairs.same.sum())} of one identity"
    return facts


def _labels(source: FaceRecords) -> tuple[np.ndarray, list[str]]:
    """Labels, -1 where unreadable, and what is wrong with them."""
    labels = source.labels()
    problems = []
    unreadable = np.flatnonzero(labels < 0)
    if len(unreadable):
        problems.append(f"{len(unreadable)} records cannot be read, the first {source.where(int(unreadable[0]))}")
    try:
        source.check()
    except DataError as error:
        problems.append(str(error))
    return labels, problems


def _histogram(counts: np.ndarray) -> Iterator[tuple[str, int]]:
    for low, high in zip(BINS, (*BINS[1:], None), strict=True):
        name = f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}-{high - 1}"
        inside = int(np.count_nonzero((counts >= low) & (counts < (high or np.inf))))
        if inside:
            yield name, inside


def _read_all(source: FaceRecords, labels: np.ndarray, workers: int, progress: bool) -> Soundness:
    def look(index: int) -> tuple[str, int, int, bool] | str:
        try:
            encoded, _ = source.read(index)
            _, noted = decode_noting(encoded, source.where(index))
        except DataError as error:
            return str(error)
        kind = "PNG" if encoded[:8] == PNG_SIGNATURE else "JPEG"
        digest = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")
        return kind, image_side(encoded), digest, noted

    encodings: Counter[str] = Counter()
    sides: Counter[int] = Counter()
    digests = np.zeros(len(source), dtype=np.uint64)  # 64 bits: 8 bytes per image, and no chance meeting among millions
    problems, sound, surplus = [], np.zeros(len(source), dtype=bool), 0
    results = ordered_map(look, range(len(source)), workers)
    for index, result in enumerate(
        tqdm(results, total=len(source), desc="reading", unit="image", disable=not progress)
    ):
        if isinstance(result, str):
            problems.append(result)
            continue
        kind, pixels, digests[index], noted = result
        surplus += noted
        sound[index] = True
        encodings[kind] += 1
        sides[pixels] += 1
    repeated, elsewhere = _repetitions(digests[sound], labels[sound])
    return Soundness(dict(encodings), dict(sorted(sides.items())), repeated, elsewhere, problems, surplus)


def _repetitions(digests: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """How many images equal an earlier one, and how many of them the first such one of another label."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    original = first[inverse]
    again = original != np.arange(len(digests))
    return int(again.sum()), int((again & (labels[original] != labels)).sum())


def _labels_of(path: Path) -> np.ndarray:
    return FaceRecords(path, on_corrupt="skip").labels()


def _records_layout(folder: Path, records: list[str]) -> str:
    """Which files train, and whether they begin with InsightFace's header record."""
    used = ["train.rec"] if "train.rec" in records else records
    kinds = []
    for name in used:
        header = read_header(RecordReader(folder / name)) is not None
        kinds.append(f"{name} ({'InsightFace, with header record' if header else 'im2rec, without header record'})")
    return ", ".join(kinds)

"""RecordIO: every layout that the reader knows, with and without its index.

What a wrong label is: RecordIO has no checksum, so a label whose own four bytes were overwritten, or replaced by others
through a cut between the beginning of the record and the label, may be any. Every other label must be the one that the
undamaged file has in those four bytes, at a place where it has a label; and the image must begin with the byte that
followed that label's header, unless a cut or an insertion lies between the two.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import INSERTED, Damaged, damage
from golden.make_golden import FOLDER, MAGIC, draw, png

from qgface_plugin.data.images import decode, encode_jpeg
from qgface_plugin.data.recordio import Header, RecordReader, RecordWriter, pack
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError

SPACING = 1 << 24  # between the origins of two seed files
PART = struct.Struct("<II")
INDEX_PIECES = (b"\t", b"\n", b"-", b"+1", b"0", b"9" * 18, b"9" * 19, b"9" * 400, b" ", b"\r\n", b"\0", b"e9", b".5",
                b"0x10", b"\xff", "٣".encode(), b"4", b"8", b"\n\n", b"1\t4\n", b"_", b"nan")  # fmt: skip
PROPERTIES = (b"3,112,112", b"3,112", b"", b"\n", b"3.5,112,112", b"9" * 300, "٣,112,112".encode(),
              "²,112,112".encode(), b"-3,1,1", b"0,0,0", b"3,\xff,112", b"3,112,112\n" * 100,
              b"16777217,112,112", b"\0,\0,\0",
              b"9" * 100 + b",112,112")  # fmt: skip


class Seed:
    """An undamaged file set: bytes, and for the first byte of each label its value and where its image begins."""

    def __init__(self, path: Path, number: int) -> None:
        self.rec = Damaged.whole(path.read_bytes(), number * SPACING)
        self.idx = path.with_suffix(".idx").read_bytes()
        beside = path.parent / "property"
        self.property = beside.read_bytes() if beside.exists() else None
        reader = RecordReader(path)
        self.starts = [int(offset) for offset in reader.offsets]
        self.labels: dict[int, tuple[float, int]] = {}
        for start in self.starts:
            payload, origin = joined(self.rec, start)
            flag, label = struct.unpack_from("<If", payload)
            at = 24 if flag else 4
            value = struct.unpack_from("<f", payload, 24)[0] if flag else label
            image = 24 + 4 * flag
            if image < len(payload):
                self.labels[int(origin[at])] = (value, int(origin[image]))


@lru_cache(maxsize=1)
def seeds() -> list[Seed]:
    """Golden files by MXNet, and files by this project's writer: JPEG and PNG, parts, several labels."""
    folder = Path(tempfile.mkdtemp())
    try:
        images = [encode_jpeg(draw(label, number, 16), 60) for label in range(3) for number in range(2)]
        images += [png(draw(label, 0, 8)) for label in range(3)]
        labels = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0]
        plain = [(key, label, image) for key, (label, image) in enumerate(zip(labels, images, strict=True))]
        styles = {
            "plain": plain,
            "parts": [(key, label, image + MAGIC * (key % 3)) for key, label, image in plain],
            "several": [(key, [label, 0.5, 7.0][: 1 + key % 3], image) for key, label, image in plain],
            "insightface": [(0, [10.0, 13.0], b"")]
            + [(key + 1, float(key // 3), image) for key, _, image in plain]
            + [(key, [3.0 * key - 29, 3.0 * key - 26], b"") for key in (10, 11, 12)],
        }
        paths = [FOLDER / "insightface" / "train.rec", FOLDER / "im2rec.rec"]
        for name, records in styles.items():
            with RecordWriter(folder / f"{name}.rec") as writer:
                for key, label, image in records:
                    writer.write(key, pack(Header(0, label, key, 0), image))
            paths.append(folder / f"{name}.rec")
        return [Seed(path, number) for number, path in enumerate(paths)]
    finally:
        shutil.rmtree(folder)


def make(rng: np.random.Generator) -> Case:
    """A damaged file set. One in eight has no damage to its records: then index or `property` are hit."""
    seed, other = pick(rng, seeds()), pick(rng, seeds())
    hit_rec, hit_idx = rng.random() < 0.7, rng.random() < 0.3
    rec = damage(seed.rec, rng, seed.starts, other.rec) if hit_rec else seed.rec
    files = {"train.rec": rec.bytes()}
    if rng.random() < 0.75:
        files["train.idx"] = damaged_index(seed.idx, rng, other.idx) if hit_idx or not hit_rec else seed.idx
    if seed.property is not None or rng.random() < 0.05:
        files["property"] = pick(rng, PROPERTIES) if rng.random() < 0.2 else seed.property or b"3,112,112"
    on_corrupt = pick(rng, ("error", "skip"))
    return Case(files, lambda folder: check(folder, rec, on_corrupt), f"on_corrupt={on_corrupt}")


def damaged_index(text: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """Another text: bytes changed as in any file, or pieces of numbers and lines put in, exchanged or left out."""
    if rng.random() < 0.3:
        return damage(Damaged.whole(text), rng, [], Damaged.whole(other), grain=1).bytes()
    lines = text.split(b"\n")
    for _ in range(int(rng.integers(1, 4))):
        row = int(rng.integers(len(lines)))
        kind = int(rng.integers(5))
        if kind == 0:
            at = int(rng.integers(len(lines[row]) + 1))
            lines[row] = lines[row][:at] + pick(rng, INDEX_PIECES) + lines[row][at + int(rng.integers(2)) :]
        elif kind == 1:
            lines[row], lines[-1 - row] = lines[-1 - row], lines[row]
        elif kind == 2:
            lines = lines[:row] + lines[row + 1 :] or [b""]
        elif kind == 3:
            lines.insert(row, pick(rng, lines))
        else:  # the offset of another line: a record that exists, under another key
            lines[row] = lines[row].split(b"\t")[0] + b"\t" + pick(rng, lines).split(b"\t")[-1]
    return b"\n".join(lines)


def check(folder: Path, rec: Damaged, on_corrupt: str) -> int:
    """Read all that is there; Finding for a wrong label, the project's errors for the rest."""
    source = FaceRecords(folder, on_corrupt=on_corrupt)
    served = {}
    for index in range(len(source)):
        try:
            encoded, label = source.read(index)
        except DataError:
            continue
        served[index] = label
        shard, key = source._locate(index)
        judge(rec, shard.reader.offset(key), label, source.where(index), bytes(encoded))
        try:
            decode(encoded, source.where(index), size=24)
        except DataError:
            pass
    try:
        labels = source.labels()
        source.check()
    except DataError:
        return len(served)
    for index, label in enumerate(labels.tolist()):
        if label != served.get(index, label):
            raise Finding("label", f"image {index}: labels() says {label}, read() says {served[index]}")
        shard, key = source._locate(index)
        start = shard.reader.offset(key)
        if label >= 0 and index not in served and rec.data[start + 7] >> 5 == 0:
            judge(rec, start, label, source.where(index))
    if max(served.values(), default=-1) >= source.num_classes or not source.num_classes:
        raise Finding("label", f"check() passes labels {served} with {source.num_classes} classes")
    return len(served)


def judge(rec: Damaged, start: int, label: int, where: str, encoded: bytes | None = None) -> None:
    """Finding when a served label is wrong by this module's definition. encoded: the image served with it, if any."""
    payload, origin = joined(rec, start)
    _, changed = joined(rec, start, rec.changed)
    flag = struct.unpack_from("<I", payload)[0]
    at, image = (24 if flag else 4), 24 + 4 * flag
    if encoded is not None and encoded != payload[image:]:
        raise Finding("content", f"{where}: the image is not what follows the header")
    spot = origin[at : at + 4]
    overwritten = bool(changed[at : at + 4].any()) or INSERTED in spot
    before = rec.origin[start : start + PART.size + 4]
    torn = bool(np.any(np.diff(np.append(before, origin[4 : at + 4])) != 1)) or INSERTED in before
    torn |= bool(rec.changed[start : start + 4].any())  # no record began here before
    if overwritten or bool(np.any(np.diff(spot) != 1)):
        return
    truth = next((seed.labels[int(spot[0])] for seed in seeds() if int(spot[0]) in seed.labels), None)
    if truth is None:
        if not torn:
            raise Finding("label", f"{where}: label {label} comes from bytes that are no label")
        return
    if label != truth[0]:
        raise Finding("label", f"{where}: label {label}, the undamaged file says {truth[0]}")
    between = origin[at : image + 1]
    if int(origin[image]) != truth[1] and bool(np.all(np.diff(between) == 1)):
        raise Finding("label", f"{where}: label {label} with bytes that are not its image")


def joined(rec: Damaged, start: int, of: np.ndarray | None = None) -> tuple[bytes, np.ndarray]:
    """A record's payload by the format's description, and the origin (or `of`) of each of its bytes."""
    values = rec.origin if of is None else of
    payload, parts = b"", []
    while True:
        _, word = PART.unpack_from(rec.data, start)
        kind, stop = word >> 29, start + PART.size + (word & 0x1FFFFFFF)
        payload += rec.data[start + PART.size : stop].tobytes()
        parts.append(values[start + PART.size : stop])
        if kind in (0, 3):
            return payload, np.concatenate(parts)
        payload += MAGIC
        parts.append(np.full(4, INSERTED).astype(values.dtype))
        start = (stop + 3) & ~3

"""Files of the evaluation protocols: IJB's text, SCface's lists, TinyFace's `.mat` files.

What a wrong answer is: a line that came through whole (see `texts`) means something else than it did; an image of
SCface that no line names; a variable of a `.mat` file that was hit in place and is accepted with other values although
its check sum was there to tell.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import Damaged, damage, fresh
from fuzz.texts import damaged_text, whole_lines
from identification_sets import cells
from scipy.io import savemat

from qgface_plugin.evaluation.protocols.ijb.identification import read_protocol
from qgface_plugin.evaluation.protocols.ijb.metadata import read_images, read_pairs
from qgface_plugin.evaluation.protocols.inventory import Inventory
from qgface_plugin.evaluation.protocols.scface_files import read_scface
from qgface_plugin.evaluation.protocols.tinyface_files import read_identities

IMAGES = 9
MEMBERS = [(f"{n + 1}.jpg", n // 3 + 1, 10 * n + 7) for n in range(IMAGES)]
POINTS = [(f"{n + 1}.jpg", *(round(n + 1.25 * c, 2) for c in range(10)), 0.9 + n / 100) for n in range(IMAGES)]
PAIRS = [(first, second, int(first == second)) for first in range(1, 4) for second in range(1, 4)]
ENROLLED = {"gallery_G1": [(1, 11), (2, 22)], "gallery_G2": [(3, 33)], "probe_mixed": [(1, 11), (2, 22), (3, 33)]}


def lines(rows: list[tuple], mark: str = " ") -> str:
    return "".join(mark.join(map(str, row)) + "\n" for row in rows)


META = {
    "meta/ijbb_face_tid_mid.txt": lines(MEMBERS),
    "meta/ijbb_name_5pts_score.txt": lines(POINTS),
    "meta/ijbb_template_pair_label.txt": lines(PAIRS),
    **{f"meta/ijbb_1N_{name}.csv": "TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + lines([(*row, "x.jpg") for row in rows], ",")
       for name, rows in ENROLLED.items()},
}  # fmt: skip
CSV_NAMES = [f"meta/ijbb_1N_{name}.csv" for name in ENROLLED]


def make_ijb(rng: np.random.Generator) -> Case:
    name = pick(rng, [name for name in META if not name.endswith(".csv")] * 2 + CSV_NAMES)
    file = damaged_text(META[name].encode(), META[pick(rng, list(META))].encode(), rng)
    files = {other: text.encode() for other, text in META.items()} | {name: file.bytes()}
    return Case(files, lambda folder: check_ijb(folder, name, file), name)


def check_ijb(folder: Path, name: str, file: Damaged) -> int:
    kept = {}
    if file.bytes()[:2] not in (b"\xff\xfe", b"\xfe\xff") and not (name.endswith(".csv") and b'"' in file.bytes()):
        kept = whole_lines(file, META[name].encode())
    if name.endswith("pair_label.txt"):
        pairs = read_pairs(folder, "IJBB")
        rows = np.stack([pairs.first, pairs.second, pairs.same], axis=1)
        judge(name, rows, kept, PAIRS)
        return len(pairs)
    if name.endswith(".csv"):
        galleries, probes = read_protocol(folder, "IJBB")
        short = name[len("meta/ijbb_1N_") : -len(".csv")]
        one = next(e for e in (*galleries, probes) if short.endswith(e.name) or e.name == "probes" == short[:5] + "s")
        found = set(zip(one.templates.tolist(), one.subjects.tolist(), strict=True))
        for line in kept.values():
            if 1 < line <= len(ENROLLED[short]) + 1 and ENROLLED[short][line - 2] not in found:
                raise Finding("label", f"{name}: line {line} of before is lost: {found}")
        return len(found)
    images = read_images(folder, "IJBB")
    if not np.isfinite(images.landmarks).all() or len(images.names) != len(images.templates):
        raise Finding("content", f"{len(images.names)} names, {len(images.templates)} templates")
    rows = np.column_stack([images.templates, images.medias])
    points = np.column_stack([images.landmarks.reshape(-1, 10), images.detector])
    members = name.endswith("mid.txt")
    judge(name, rows, kept if members else {n: n for n in range(1, IMAGES + 1)}, [row[1:] for row in MEMBERS])
    judge(name, points, {n: n for n in range(1, IMAGES + 1)} if members else kept, [np.float32(p[1:]) for p in POINTS])
    judge(name, images.names, kept, [row[0] for row in MEMBERS])
    return len(images)


def judge(name: str, found: object, kept: dict[int, int], expected: list) -> None:
    """Finding unless each line that came through whole is the row of its number."""
    for number, line in kept.items():
        if line <= len(expected):
            if number > len(found) or not np.array_equal(found[number - 1], expected[line - 1]):
                raise Finding("label", f"{name} line {number}: {found[number - 1]}, it was {expected[line - 1]}")


FACES = [f"{who:03d}_{kind}" for who in (1, 2, 30) for kind in ("frontal", "cam1_1", "cam8")]
SCFACE = {
    "all.txt": "".join(f"{name}\t0\n" for name in FACES),
    "subjects.txt": "001\n2\n# those of the paper\n030 # the last\n",
}


def make_scface(rng: np.random.Generator) -> Case:
    name = pick(rng, list(SCFACE))
    file = damaged_text(SCFACE[name].encode(), SCFACE["all.txt"].encode(), rng)
    files = {f"aligned/{face}.jpg": b"" for face in FACES} | {k: text.encode() for k, text in SCFACE.items()}
    return Case(files | {name: file.bytes()}, lambda folder: check_scface(folder, name, file), name)


def check_scface(folder: Path, name: str, file: Damaged) -> int:
    found = read_scface(folder, folder / "subjects.txt")
    images = [*zip(found.gallery, found.gallery_ids, strict=True), *zip(found.probes, found.probe_ids, strict=True)]
    data = file.bytes()
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for path, who in images:
        if int(path.stem[:3]) != who:
            raise Finding("label", f"{path.name} is said to be {who}")
        if name == "all.txt" and not wide and path.stem.encode() not in data:
            raise Finding("label", f"{path.name} is used, and in no line")
    for path, camera, distance in zip(found.probes, found.cameras, found.distances, strict=True):
        if path.stem[4:] != f"cam{camera}_{distance}":
            raise Finding("label", f"{path.name} is said to be of camera {camera} at {distance}")
    if not wide:
        used = {path.stem for path, _ in images}
        for line in whole_lines(file, SCFACE[name].encode()).values():
            if name == "all.txt" and line <= len(FACES):
                if FACES[line - 1][3:] in ("_frontal", "_cam1_1") and FACES[line - 1] not in used:
                    raise Finding("label", f"{FACES[line - 1]} is in the list, and not used")
            elif name == "subjects.txt" and line in (1, 2, 4):
                if {1: 1, 2: 2, 4: 30}[line] not in {who for _, who in images}:
                    raise Finding("label", f"line {line} of before names a subject that is not used")
    return len(images)


# --- .mat files -------------------------------------------------------------------------------------------------------

TAGS = (0, 1, 2, 4, 5, 6, 9, 14, 15, 16, 17, 18, 0x40010, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 1 << 24, 56, 8)


@lru_cache(maxsize=1)
def mats() -> list[bytes]:
    names = [f"{who}_{n}.jpg" for who in range(1, 8) for n in range(1, 3)]
    ids = np.array([[int(name.split("_")[0])] for name in names])
    found = []
    for given in (cells(names), cells([cells([name]) for name in names]), np.array(names)):
        for packed in (False, True):
            for numbers in (ids, ids.astype(float), ids.astype(np.uint8)):
                out = io.BytesIO()
                savemat(out, {"probe_set": given, "other": np.eye(3), "probe_ids": numbers}, do_compression=packed)
                found.append(out.getvalue())
    return found


def make_mat(rng: np.random.Generator) -> Case:
    data = pick(rng, mats())
    whole = Damaged.whole(data)
    inner = data[132] == 15 or data[128] == 15
    if inner and rng.random() < 0.5:
        return Case({"x.mat": repacked(data, rng)}, lambda folder: check_mat(folder, data, None))
    hot = [at for at in range(128, len(data), 8)]
    file = whole
    if rng.random() < 0.5:
        file = damage(whole, rng, hot, Damaged.whole(pick(rng, mats()), 1 << 24), grain=8)
    if file is whole or rng.random() < 0.3:
        at = int(rng.integers(16, max(17, len(file.data) // 4))) * 4
        word = struct.pack(pick(rng, ("<I", ">I")), pick(rng, TAGS))
        file = (
            file.over(at, word) if rng.random() < 0.7 else file.cut(0, at) + fresh(word) + file.cut(at, len(file.data))
        )
    return Case({"x.mat": file.bytes()}, lambda folder: check_mat(folder, data, file))


def repacked(data: bytes, rng: np.random.Generator) -> bytes:
    """A compressed file whose variables are damaged within, with right check sums, or expand."""
    out, at = data[:128], 128
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        content = zlib.decompress(data[at + 8 : at + 8 + length])
        if rng.random() < 0.6:
            file = Damaged.whole(content)
            place = int(rng.integers(len(content) // 4)) * 4
            file = file.over(place, struct.pack("<I", pick(rng, TAGS))) if rng.random() < 0.6 else damage(
                file, rng, list(range(0, len(content), 8)), file, grain=8
            )  # fmt: skip
            content = file.bytes()
            if rng.random() < 0.2:
                content += bytes(int(2 ** rng.uniform(0, 24)))
            if rng.random() < 0.5 and len(content) >= 8:
                content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
        packed = zlib.compress(content, 1)
        out += struct.pack("<II", kind, len(packed)) + packed
        at += 8 + length
    return out


def check_mat(folder: Path, data: bytes, file: Damaged | None) -> int:
    found = read_identities(folder / "x.mat", "probe_set", "probe_ids", Inventory())
    if not all(type(name) is str and type(who) is int and 0 <= who < 1 << 53 for name, who in found.items()):
        raise Finding("content", f"names and identities of other kinds: {list(found.items())[:3]}")
    if file is not None and data[128] == 15 and len(file.data) == len(data):
        hit = np.flatnonzero(file.changed)
        if bool(np.all(np.diff(file.origin) == 1)) and len(hit) and hit[0] >= 136:
            expected = {f"{who}_{n}": who for who in range(1, 8) for n in range(1, 3)}
            if found != expected:
                raise Finding("label", f"a compressed file hit in place gives {found}")
    return len(found)

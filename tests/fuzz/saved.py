"""What this project saves and reads again: features, results, metrics.jsonl.

What a wrong answer is: features that are not finite, or that differ although no byte of them was hit; a line of
metrics.jsonl that came through whole (see `texts`) and whose numbers are not there.
"""

from __future__ import annotations

import json
import struct
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import Damaged, damage, fresh
from fuzz.texts import PIECES, damaged_text, whole_lines

from qgface_plugin.evaluation.feature_cache import FeatureCache
from qgface_plugin.evaluation.report.results import read_results
from qgface_plugin.evaluation.report.table import report
from qgface_plugin.experiments.run_metrics import read_metrics
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.training.metrics_jsonl import MetricsLog, is_verification

IMAGES, CHUNK, SIZE = 10, 4, 6
SIDES = [np.random.default_rng(side).standard_normal((IMAGES, SIZE)).astype(np.float32) for side in (1, 2)]
BAD = {3: "3.jpg: no such image"}
SHAPES = (
    b"(10, 6)",
    b"(1, 6)",
    b"(6, 10)",
    b"(10, 99999999)",
    b"(99999999999, 6)",
    b"()",
    b"(60,)",
    b"(4, 6)",
    b"(-1, 6)",
)
WORDS = (b"<f4", b"<f8", b"|O", b">f4", b"<U9", b"True", b"'", b"{", b"((((", b"2**9", b"}", b"\n", b"V", b"(((" * 90)


@lru_cache(maxsize=1)
def cached() -> tuple[str, dict[str, bytes], dict[str, bytes]]:
    """Name of the folder, its files when it is half done, and when it is complete."""
    with tempfile.TemporaryDirectory() as name:
        cache = FeatureCache(Path(name), "ijbb", {"model": "a"}, IMAGES, CHUNK)
        for chunk in range(cache.chunks):
            begin, end = cache.bounds(chunk)
            bad = {index: why for index, why in BAD.items() if begin <= index < end}
            cache.write(chunk, Embeddings(*(side[begin:end] for side in SIDES)), bad)
        half = {path.name: path.read_bytes() for path in cache.folder.iterdir()}
        cache.finish()
        return cache.folder.name, half, {path.name: path.read_bytes() for path in cache.folder.iterdir()}


def make_features(rng: np.random.Generator) -> Case:
    folder, half, whole = cached()
    files = dict(pick(rng, (half, whole)))
    name = pick(rng, sorted(files))
    other = pick(rng, [*half.values(), *whole.values()])
    if name.endswith(".json"):
        file = damaged_text(files[name], other, rng)
    else:
        file = Damaged.whole(files[name])
        if rng.random() < 0.5:
            file = headed(file, rng)
        if rng.random() < 0.5:
            at = int(rng.integers(len(file.data)))
            numbers = (float("nan"), float("inf"), 3e38, -0.0)
            file = file.over(at - at % 4, struct.pack("<f", pick(rng, numbers)))
        else:
            hot = [at for at in (0, 26, 40, 128, len(file.data) - 100) if at >= 0]
            file = damage(file, rng, hot, Damaged.whole(other, 1 << 24), grain=4)
    if rng.random() < 0.02:
        del files[name]
    else:
        files[name] = file.bytes()
    files = {f"{folder}/{key}": value for key, value in files.items()}
    in_place = bool(np.all(np.diff(file.origin) == 1)) and file.origin[:1].tolist() == [0]
    hit = np.flatnonzero(file.changed) if in_place else None
    return Case(files, lambda into: check_features(into, name, hit, len(file.data)), name)


def headed(file: Damaged, rng: np.random.Generator) -> Damaged:
    """With another shape or kind of numbers in the header."""
    data = file.bytes()
    for marks, words in ((b"(", SHAPES), (b"<f4", WORDS)):
        at = data.find(marks)
        if at >= 0 and rng.random() < 0.6:
            word = pick(rng, words)
            end = data.index(b")", at) + 1 if marks == b"(" and b")" in data[at:] else at + len(marks)
            if rng.random() < 0.5:  # the header keeps its length
                word = word[: end - at].ljust(end - at)
            return file.cut(0, at) + fresh(word) + file.cut(end, len(data))
    return file


def check_features(into: Path, name: str, hit: np.ndarray | None, size: int) -> int:
    cache = FeatureCache(into, "ijbb", {"model": "a"}, IMAGES, CHUNK)
    if not cache.complete:
        cache.finish()
    found, bad = cache.load()
    for side, features, before in zip(("original", "mirrored"), (found.original, found.mirrored), SIDES, strict=True):
        if features.shape != before.shape or not np.isfinite(features).all():
            raise Finding("content", f"{side}: {features.shape}, finite: {np.isfinite(features).all()}")
        if not name.startswith(side) and name.endswith(".npy") and not np.array_equal(features, before):
            raise Finding("label", f"{side}: other features, though {name} was hit")
        if name == f"{side}.npy" and hit is not None and size >= before.nbytes:
            rows = {int(at - (size - before.nbytes)) // 4 // SIZE for at in hit if at >= size - before.nbytes}
            kept = [row for row in range(IMAGES) if row not in rows]
            if len(cached()[2][name]) == size and not np.array_equal(features[kept], before[kept]):
                raise Finding("label", f"{side}: features differ that were not hit")
    if not name.endswith(".json") and not name.endswith(".npz") and bad != BAD:
        raise Finding("label", f"bad images {bad}")
    return len(found.original)


# --- results ----------------------------------------------------------------------------------------------------------

RESULTS = {
    "pairs": {"sets": {"lfw": {"accuracy": 0.99}, "agedb_30": {"accuracy": 0.9}}, "average": {"accuracy": 0.95}},
    "scface": {"rank1": {"d1": 0.5, "d2": 0.6, "d3": 0.7}},
    "tinyface": {"rank": {"1": 0.6, "5": 0.7, "20": 0.8}},
    "ijbb": {"one_to_one": [{"mode": "N0D1F1", "tar_at_far": [{"far": 1e-4, "nearest": 0.5, "strict": 0.4}]}]},
}  # fmt: skip
SAVED = {
    f"{protocol}.json": json.dumps(
        {"protocol": protocol, "data": "/data", "model": "model.pt", "settings": {"flip": True}, "results": results,
         "warnings": ["one"]}, indent=2,
    )
    for protocol, results in RESULTS.items()
}  # fmt: skip
VALUES = (b"null", b"true", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b'"0.5"', b"9" * 400, b"0", b"[[[]]]")


def make_results(rng: np.random.Generator) -> Case:
    name = pick(rng, list(SAVED))
    data = SAVED[name].encode()
    file = damaged_text(data, SAVED[pick(rng, list(SAVED))].encode(), rng)
    if rng.random() < 0.5:  # another value, in JSON that stays right
        ends = [at for at in range(1, len(data)) if data[at - 1 : at + 1] == b": "]
        at = pick(rng, ends) + 1
        end = next(i for i in range(at, len(data)) if data[i] in b",\n]}")
        file = Damaged.whole(data[:at] + pick(rng, VALUES) + data[end:])
    recipe = pick(rng, (b"{}", b"[]", b"[" * 3000, b"\xff", b'{"seed": 1}', pick(rng, PIECES)))
    files = {f"results/{key}": value.encode() for key, value in SAVED.items()} | {f"results/{name}": file.bytes()}
    return Case(files | {"recipe.json": recipe}, check_results, name)


def check_results(folder: Path) -> int:
    results = read_results(folder)
    table = report([folder])
    for row in table.rows:
        for cell in row.cells:
            if cell is not None and not np.isfinite(cell.mean):
                raise Finding("content", f"{row.name}: {cell}")
    return len(results)


# --- metrics.jsonl ----------------------------------------------------------------------------------------------------

LINES = [
    {"kind": "train", "step": step, "epoch": 0, "lr": 0.1, "loss": 4.0 / step, "queue": None} for step in range(1, 9)
]
LINES[4:4] = [{"kind": "verification", "step": 4, "name": "lfw", "accuracy": 0.75, "std": 0.1, "highest": 0.75}]
METRICS = "".join(json.dumps(line) + "\n" for line in LINES)
EDITS = ('"kind": "train"', '"step": 3', '"name": "lfw"', '"accuracy": 0.75', '"highest": 0.75', '"loss": 2.0')


def make_metrics(rng: np.random.Generator) -> Case:
    text = METRICS.encode()
    file = damaged_text(text, text, rng)
    if rng.random() < 0.3:
        edit = pick(rng, EDITS).encode()
        at = text.index(edit)
        new = pick(rng, (b'"other": 1', edit.split(b":")[0] + b": " + pick(rng, VALUES)))
        whole = Damaged.whole(text)
        file = whole.cut(0, at) + fresh(new) + whole.cut(at + len(edit), len(text))
    return Case({"metrics.jsonl": file.bytes()}, lambda folder: check_metrics(folder, file))


def check_metrics(folder: Path, file: Damaged) -> int:
    kept = {} if file.bytes()[:2] in (b"\xff\xfe", b"\xfe\xff") else whole_lines(file, METRICS.encode())
    expected = [LINES[line - 1] for line in kept.values() if line <= len(LINES)]
    problem = None
    try:
        read = read_metrics(folder)
        losses = set(zip(*read.terms.get("loss", ((), ())), strict=True))
        for line in expected:
            if line["kind"] == "train" and (line["step"], line["loss"]) not in losses:
                raise Finding("label", f"{line} is in the file, and {losses} are read")
    except ValueError as error:
        problem = error
    log = MetricsLog(folder / "metrics.jsonl", start_step=4)  # what a resume keeps
    log.close()
    for line in log.kept:
        if is_verification(line) and not isinstance(line["name"], str):
            raise Finding("content", f"{line}")
    for line in expected:
        if line["step"] <= 4 and line not in log.kept:
            raise Finding("label", f"{line} is in the file, and {log.kept} are kept")
    if problem is not None:
        raise problem
    return len(read.terms)

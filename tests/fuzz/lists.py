"""Lists in text: `.lst` of both kinds, `property`, landmarks (CSV, JSON, IJB's text), and pairs files (LFW's, CSV).

What a wrong answer is: a line that came through whole (see `texts`) means something else than it did.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import Damaged
from fuzz.texts import damaged_text, whole_lines

from qgface_plugin.data.packing.landmarks import read_landmarks
from qgface_plugin.data.packing.pairs_to_bin import read_pairs
from qgface_plugin.data.recordio.lst import read_list
from qgface_plugin.data.sources.records import _read_property

NAMES = ("ada/1.jpg", "ada/2.png", "Zoë K/a b.jpg", "b\\c.jpg", "d.jpg", "ada/10.jpg", "1/2.jpg", "7.jpg")
LISTS = (
    "".join(f"1\t{name}\t{label}\n" for label, name in enumerate(NAMES)),
    "".join(f"{label % 2}\t{name}\t{label}\t1 2 3 4\n" for label, name in enumerate(NAMES)),
    "".join(f"{key}\t{key // 2}.000000\t{name}\n" for key, name in enumerate(NAMES)),
    "".join(f"{key}\t{key}\t0.5\t7\t{name}\n" for key, name in enumerate(NAMES)),
)
POINTS = [[round(1.5 * row + column, 2) for column in range(10)] for row in range(len(NAMES))]
PLAIN_NAMES = [name.replace(" ", "_") for name in NAMES]
LANDMARKS = {
    "a.csv": "".join(f"{n},{','.join(map(str, p))}\n" for n, p in zip(NAMES, POINTS, strict=True)),
    "b.csv": "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"
    + "".join(f"{n},{','.join(map(str, p))}\n" for n, p in zip(NAMES, POINTS, strict=True)),
    "c.txt": "".join(f"{n} {' '.join(map(str, p))} 0.9\n" for n, p in zip(PLAIN_NAMES, POINTS, strict=True)),
    "d.json": "{\n" + ",\n".join(f"{json.dumps(n)}: {p}" for n, p in zip(NAMES, POINTS, strict=True)) + "\n}\n",
    "e.json": json.dumps({n: [p[i : i + 2] for i in range(0, 10, 2)] for n, p in zip(NAMES, POINTS, strict=True)}),
}
PAIRS = {
    "lfw.txt": "2\t1\nada\t1\t2\nbob\t3\t4\nada\t1\tbob\t2\neve\t5\tada\t10\n",
    "long.txt": "ada 1 2\nbob 3 4\nada 1 bob 2\neve 5 ada 10\nZoë 1 2\n",
    "a.csv": "ada/1.jpg,ada/2.jpg,1\nada/1.jpg,bob.jpg,0\nb.jpg,c.jpg,true\nd.jpg,e.jpg,false\n",
    "b.csv": "first,second,same\nada/1.jpg,ada/2.jpg,1\nada/1.jpg,bob.jpg,0\nb.jpg,c.jpg,true\n",
}


@cache
def truth(read: Callable[[Path], Any], name: str, text: str) -> Any:
    """What the reader makes of the undamaged text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        return read(path)


def quoted(file: Damaged) -> bool:
    """Whether lines need not be rows: a quote may hold many, and a mark of UTF-16 makes other text of all."""
    data = file.bytes()
    return b'"' in data or data[:2] in (b"\xff\xfe", b"\xfe\xff")


def make_list(rng: np.random.Generator) -> Case:
    text = pick(rng, LISTS)
    file = damaged_text(text.encode(), pick(rng, LISTS).encode(), rng)
    return Case({"train.lst": file.bytes()}, lambda folder: check_list(folder, text, file))


def check_list(folder: Path, text: str, file: Damaged) -> int:
    found = read_list(folder / "train.lst")
    expected = truth(read_list, "train.lst", text)
    if file.bytes()[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return len(found)
    whole = whole_lines(file, text.encode())
    rows = {number: row for row, number in enumerate(filled(file))}
    for number, line in whole.items():
        if number not in rows or rows[number] >= len(found) or found[rows[number]] != expected[line - 1]:
            raise Finding("label", f"line {number} is {expected[line - 1]}, and read as something else")
    if len(found) != len(rows):
        raise Finding("content", f"{len(found)} lines read of {len(rows)}")
    return len(found)


def filled(file: Damaged) -> list[int]:
    """Numbers of the lines that are not blank; a spreadsheet's empty row is its commas."""
    lines = file.bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [n for n, line in enumerate(lines, 1) if line.decode("utf-8", "surrogateescape").replace(",", " ").strip()]


PROPERTIES = ("8631,112,112", "10572, 112, 112\n", "5,112,112\r\n")


def make_property(rng: np.random.Generator) -> Case:
    text = pick(rng, PROPERTIES)
    file = damaged_text(text.encode(), pick(rng, PROPERTIES).encode(), rng)
    return Case({"property": file.bytes()}, lambda folder: check_property(folder, text, file))


def check_property(folder: Path, text: str, file: Damaged) -> int:
    found = _read_property(folder / "property")
    if type(found) is not int or found < 1:
        raise Finding("label", f"{found!r} classes")
    first = text.index(",") + 1
    if file.origin[:first].tolist() == list(range(first)) and not file.changed[:first].any():
        if found != int(text[: first - 1]):
            raise Finding("label", f"{found} classes, the file begins with {text[:first]}")
    return 1


def make_landmarks(rng: np.random.Generator) -> Case:
    name = pick(rng, list(LANDMARKS))
    file = damaged_text(LANDMARKS[name].encode(), LANDMARKS[pick(rng, list(LANDMARKS))].encode(), rng)
    return Case({name: file.bytes()}, lambda folder: check_landmarks(folder / name, file))


def check_landmarks(path: Path, file: Damaged) -> int:
    found = read_landmarks(path)
    for name, points in found.items():
        known = np.isfinite(points)  # none of them: the file says that no face was found
        if points.shape != (5, 2) or points.dtype != np.float32 or known.any() != known.all():
            raise Finding("content", f"{name}: {points}")
    if path.name != "e.json" and (path.suffix == ".json" or not quoted(file)):  # e.json is one line
        titles = path.name in ("b.csv", "d.json")  # the first line is no row
        names = PLAIN_NAMES if path.suffix == ".txt" else NAMES
        for line in whole_lines(file, LANDMARKS[path.name].encode()).values():
            row = line - 1 - titles
            if not 0 <= row < len(names):
                continue
            if not np.array_equal(found.get(names[row], np.empty(0)).ravel(), np.float32(POINTS[row])):
                raise Finding("label", f"the points of {names[row]} are {found.get(names[row])}")
    return len(found)


def make_pairs(rng: np.random.Generator) -> Case:
    name = pick(rng, list(PAIRS))
    file = damaged_text(PAIRS[name].encode(), PAIRS[pick(rng, list(PAIRS))].encode(), rng)
    return Case({name: file.bytes()}, lambda folder: check_pairs(folder / name, file))


def check_pairs(path: Path, file: Damaged) -> int:
    found = read_pairs(path)
    text = PAIRS[path.name]
    if not quoted(file):
        expected = {pair.line: pair for pair in truth(read_pairs, path.name, text)}
        by_line = {pair.line: (pair.first, pair.second, pair.same) for pair in found}
        for number, line in whole_lines(file, text.encode()).items():
            if line in expected:
                pair = expected[line]
                if by_line.get(number) != (pair.first, pair.second, pair.same):
                    raise Finding("label", f"line {number} is {pair}, and read as {by_line.get(number)}")
        headed = len(filled(file)) - len(found)
        if headed not in (0, 1):
            raise Finding("content", f"{len(found)} pairs of {len(filled(file))} lines")
    return len(found)

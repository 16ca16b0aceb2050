"""Landmark files of the three kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qgface_plugin.data.packing.landmarks import check_order, read_landmarks
from qgface_plugin.utils.errors import DataError

TEN = [1.5, 2, 3, 4, 5, 6, 7, 8, 9, -10]
NUMBERS = ",".join(map(str, TEN))
NULLS = json.dumps([[None, None]] * 5)
FLAT = json.dumps(TEN)


def read(folder: Path, name: str, text: str) -> dict[str, np.ndarray]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_landmarks(folder / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", f"./x/1 2.jpg,{NUMBERS}\n\ny.jpg,{NUMBERS}\n"),
        ("a.csv", f'path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"x/1 2.jpg",{NUMBERS}\r\ny.jpg,{NUMBERS}'),
        ("a.txt", f"x/1 2.jpg {NUMBERS.replace(',', ' ')} 0.97\ny.jpg  {NUMBERS.replace(',', chr(9))}\n"),
        ("a.csv", f"\ufeffx/1 2.jpg;{NUMBERS.replace(',', ';')}\r\ny.jpg;{NUMBERS.replace(',', ';')}\r\n"),
        ("a.txt", f"\ufeffx/1 2.jpg\t{NUMBERS.replace(',', '  ')}\ry.jpg\t{NUMBERS.replace(',', chr(9))} 1\r"),
        ("a.json", f'\ufeff{{"x/1 2.jpg": {FLAT}, "y.jpg": {FLAT}}}'),
        ("a.json", f'{{"x/1 2.jpg": {FLAT}, "y.jpg": {json.dumps(np.reshape(TEN, (5, 2)).tolist())}}}'),
    ],
)
def test_all_kinds_read_alike(name: str, text: str, tmp_path: Path) -> None:
    landmarks = read(tmp_path, name, text)
    assert list(landmarks) == ["x/1 2.jpg", "y.jpg"]
    for points in landmarks.values():
        assert points.dtype == np.float32 and points.tolist() == [[1.5, 2], [3, 4], [5, 6], [7, 8], [9, -10]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv: no landmarks in it"),
        ("a.csv", f"x.jpg,{NUMBERS}\nx.jpg,{NUMBERS}\n", "a.csv line 2: x.jpg is given twice"),
        ("a.csv", f"x.jpg,{NUMBERS},1\n", "a.csv line 1: not a path and ten numbers"),
        ("a.csv", f"y.jpg,{NUMBERS}\nx.jpg,1,2,3\n", "a.csv line 2: not a path and ten numbers: 'x.jpg 1 2 3'"),
        ("a.csv", f"x.jpg,{NUMBERS.replace('1.5', 'nan')}\n", "a.csv line 1: not a path and ten numbers"),
        ("a.csv", f"x.jpg,{NUMBERS.replace('1.5', '1e300')}\n", "a.csv line 1: not a path and ten numbers"),
        ("a.csv", f"x.jpg,{NUMBERS.replace('1.5', '9' * 5000)}\n", "a.csv line 1: not a path and ten numbers"),
        ("a.csv", f"x.jpg,{NUMBERS.replace('1.5', '')}\n", "a.csv line 1: not a path and ten numbers"),
        ("a.csv", f'y.jpg,{NUMBERS}\n"x.jpg,{NUMBERS}\n', "a.csv line 2: no row of a CSV"),
        ("a.csv", f"y.jpg,{NUMBERS}\nx\0.jpg,{NUMBERS}\n", "a.csv line 2: a NUL byte"),
        ("a.json", f'{{"x.jpg": {FLAT.replace("1.5", "1e300")}}}', "not five points"),
        ("a.json", f'{{"x.jpg": {FLAT.replace("1.5", "NaN")}}}', "not five points"),
        ("a.json", "[" * 100_000, "a.json: not JSON"),
        ("a.txt", "x.jpg 1 2 3 4 5 6 7 8 9\n", "a.txt line 1: not a path and ten numbers"),
        ("a.json", "{", "a.json: not JSON"),
        ("a.json", "[]", "a.json: .* but list"),
        ("a.json", '{"x.jpg": [1, 2]}', "a.json 'x.jpg': not five points"),
        ("a.json", f'{{"x.jpg": {FLAT.replace("1.5", "true")}}}', "not five points"),
        ("a.json", '{"x.jpg": null}', "no landmarks in it: none of its 1 photographs has any"),
        ("a.json", '{"x.jpg": [null, 2, 3, 4, 5, 6, 7, 8, 9, 1]}', "not five points"),
        ("a.csv", "x.jpg\ny.jpg,,,\n", "no landmarks in it: none of its 2 photographs has any"),
        ("a.csv", f"y.jpg,{NUMBERS}\nx.jpg,,,1,,,,,,,\n", "a.csv line 2: not a path and ten numbers"),
        ("a.txt", "no landmarks at all\n", "a.txt line 1: not a path and ten numbers"),
        ("a.json", "{}", "no landmarks in it"),
    ],
)
def test_malformed(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, text)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.csv: the landmarks cannot be read"):
        read_landmarks(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="a.csv: .*not text in UTF-8"):
        read_landmarks(tmp_path / "a.csv")


def test_ijb_file(lfw: Path) -> None:
    path = lfw / "ijb" / "IJBB" / "meta" / "ijbb_name_5pts_score.txt"
    landmarks = read_landmarks(path)
    first = path.read_text().splitlines()[0].split()
    assert len(landmarks) == 359
    assert landmarks[first[0]].ravel().tolist() == np.array(first[1:11], dtype=np.float32).tolist()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", f"x.jpg,{NUMBERS}\n1 2.jpg,,,,,,,,,,\n"),
        ("a.csv", f"1 2.jpg,,,,,,,,,,\nx.jpg,{NUMBERS}\n"),
        ("a.csv", f"1 2.jpg{',NaN' * 10}\nx.jpg,{NUMBERS}\n"),
        ("a.csv", f"path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n1 2.jpg\nx.jpg,{NUMBERS}\n"),
        ("a.csv", f"x.jpg,{NUMBERS}\n1 2.jpg{',None' * 10}\n"),
        ("a.txt", f"x.jpg {NUMBERS.replace(',', ' ')}\n1 2.jpg{' nan' * 10} 0.1\n"),
        ("a.txt", f"x.jpg {NUMBERS.replace(',', ' ')}\n1 2.jpg\n"),
        *(
            ("a.json", f'{{"x.jpg": {FLAT}, "1 2.jpg": {nothing}}}')
            for nothing in ("null", "[]", "{}", '""', str([float("nan")] * 10).replace("nan", "NaN"), NULLS)
        ),
    ],
)
def test_a_photograph_without_landmarks(name: str, text: str, tmp_path: Path) -> None:
    landmarks = read(tmp_path, name, text)
    assert set(landmarks) == {"x.jpg", "1 2.jpg"}
    assert np.isnan(landmarks["1 2.jpg"]).all() and np.isfinite(landmarks["x.jpg"]).all()


def test_orders(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x.jpg,1,2,3,4,5,10,20,30,40,50\n")
    assert read_landmarks(tmp_path / "a.csv", "x-then-y")["x.jpg"].tolist() == [[n, 10 * n] for n in range(1, 6)]
    (tmp_path / "b.csv").write_text("x.jpg,100,101,102,103,104,100,100,101,102,103\ny.jpg,,,\n")
    with pytest.raises(DataError, match="b.csv: 100 % of its 1 landmarks are no face's"):
        check_order(read_landmarks(tmp_path / "b.csv"), tmp_path / "b.csv")

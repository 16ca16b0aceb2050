"""Columns of numbers, and the line of what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qgface_plugin.evaluation.protocols.ijb_text import integers, named_numbers
from qgface_plugin.utils.errors import DataError


def write(folder: Path, text: str) -> Path:
    path = folder / "table.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_integers(tmp_path: Path, end: str) -> None:
    values = integers(write(tmp_path, f"1 20 0\n3 400000 1{end}"), 3)
    assert values.dtype == np.int64 and values.tolist() == [[1, 20, 0], [3, 400000, 1]]


def test_named_numbers(tmp_path: Path) -> None:
    names, values = named_numbers(write(tmp_path, "a.jpg 1 2.5\nimg/b.jpg -3 4e1\r\n"), 2)
    assert names == ["a.jpg", "img/b.jpg"] and values.tolist() == [[1.0, 2.5], [-3.0, 40.0]]


def test_other_blanks(tmp_path: Path) -> None:
    assert integers(write(tmp_path, "1  2\t0\n3 4 1 \n"), 3).tolist() == [[1, 2, 0], [3, 4, 1]]
    assert named_numbers(write(tmp_path, " a.jpg 1  2 \nb.jpg 3\t4"), 2)[1].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 0\n1 2\n", r"table.txt: line 2 is '1 2': it should be 3 integers"),
        ("1 2 0\n1 2 0 1\n", "line 2 is '1 2 0 1'"),
        ("1 2\n0 1 2 0\n", "line 1 is '1 2'"),
        ("1 2 0\n1 2 x\n", "line 2 is '1 2 x'"),
        ("1 2 0.5\n", "line 1 is '1 2 0.5'"),
        ("1 2 0\n\n1 2 0\n", "line 2 is ''"),
        ("", "the file is empty"),
    ],
)
def test_misfit_integers(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        integers(write(tmp_path, text), 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg 1 2\nb.jpg 1\n", r"line 2 is 'b.jpg 1': it should be a name and 2 numbers"),
        ("a.jpg 1 2\nb.jpg\n", "line 2 is 'b.jpg'"),
        ("a.jpg 1\nb.jpg 1 2 3\n", "line 1 is 'a.jpg 1'"),
        ("a.jpg 1 eye\n", "line 1 is 'a.jpg 1 eye'"),
    ],
)
def test_misfit_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        named_numbers(write(tmp_path, text), 2)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory; IJB's meta folder has this file"):
        integers(tmp_path / "absent.txt", 3)

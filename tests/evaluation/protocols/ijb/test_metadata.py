"""The files of meta/: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ijb_sets import write_set

from qgface_plugin.evaluation.protocols.ijb import metadata
from qgface_plugin.evaluation.protocols.ijb.metadata import (
    find_folder,
    integers,
    named_numbers,
    read_images,
    read_pairs,
)
from qgface_plugin.utils.errors import ConfigError, DataError
from qgface_plugin.utils.text import line_blocks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "IJBB", images=4)


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / "meta" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_read(folder: Path) -> None:
    images = read_images(folder, "IJBB")
    assert images.names == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"] and len(images) == 4
    assert images.templates.tolist() == [1, 1, 2, 2] and images.medias.tolist() == [100, 101, 102, 103]
    assert images.landmarks.shape == (4, 5, 2) and images.detector.tolist() == [np.float32(0.987)] * 4
    pairs = read_pairs(folder, "IJBB")
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist()) == ([1], [2], [True])


def test_the_stand_in(lfw: Path) -> None:
    folder = find_folder(lfw / "ijb", "IJBB")
    images, pairs = read_images(folder, "IJBB"), read_pairs(folder, "IJBB")
    assert (len(images), len(np.unique(images.templates)), len(pairs), pairs.same.sum()) == (359, 160, 6400, 80)
    assert images.landmarks[0, 0].tolist() == [np.float32(102.32), np.float32(112.2)]


def test_find_folder(folder: Path) -> None:
    assert find_folder(folder, "IJBB") == find_folder(folder.parent, "IJBB") == folder
    with pytest.raises(DataError, match="meta/ijbc_face_tid_mid.txt"):
        find_folder(folder, "IJBC")
    with pytest.raises(ConfigError, match="subset is 'IJBA': .*IJBB, IJBC"):
        find_folder(folder, "IJBA")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("ijbb_face_tid_mid.txt", "3.jpg", "9.jpg", "line 3 is '9.jpg' in .*tid_mid.txt and '3.jpg' in"),
        ("ijbb_face_tid_mid.txt", "1.jpg 1 100\n", "", "tid_mid.txt has 3 lines and .*score.txt 4"),
        ("ijbb_face_tid_mid.txt", "1.jpg 1 100", "1.jpg 1.5 100", "line 1: template and media are whole numbers"),
        ("ijbb_name_5pts_score.txt", "0.987", "nan", "1 lines have a number that is not finite, first line 1"),
    ],
)
def test_images_refused(folder: Path, name: str, old: str, new: str, message: str) -> None:
    edit(folder, name, old, new)
    with pytest.raises(DataError, match=message):
        read_images(folder, "IJBB")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        # what is missing on one line stands on another, so that the numbers are as many as they should be
        ("ijbb_face_tid_mid.txt", "1.jpg 1 100\n2.jpg 1 101", "1.jpg 1 \n2.jpg 1 101 7", "line 1 is '1.jpg 1"),
        ("ijbb_face_tid_mid.txt", "1.jpg 1 100\n2.jpg 1 101", "1.jpg  100\n2.jpg 1-1 101", "line 1 is '1.jpg  100'"),
        ("ijbb_face_tid_mid.txt", "2.jpg 1 101\n3.jpg 2 102", "2.jpg 1  \n3.jpg 2  ", "line 2 is '2.jpg 1"),
        ("ijbb_face_tid_mid.txt", "1.jpg 1 100\n2.jpg 1 101", "1.jpg 1 nan\n2.jpg 1 101", "not finite, first line 1"),
        ("ijbb_face_tid_mid.txt", "2.jpg 1 101", "2.jpg 1e300 101", "tid_mid.txt: line 2 has a number beyond"),
        ("ijbb_face_tid_mid.txt", "2.jpg 1 101", f"2.jpg {2**63} 101", "tid_mid.txt: line 2 has a number beyond"),
        ("ijbb_face_tid_mid.txt", "2.jpg 1 101", f"2.jpg {'9' * 5000} 101", "tid_mid.txt: .* not finite, first line 2"),
        ("ijbb_face_tid_mid.txt", "2.jpg 1 101", "2.jpg 1\0 101", "line 2 is"),
        ("ijbb_face_tid_mid.txt", "2.jpg 1 101", "2\0.jpg 1 101", "line 2 is"),
        ("ijbb_name_5pts_score.txt", "0.987", "1e300", "score.txt: line 1 has a number beyond"),
        ("ijbb_name_5pts_score.txt", "0.987", "0,987", "score.txt: line 1 is"),
    ],
)
def test_images_that_would_shift(folder: Path, name: str, old: str, new: str, message: str) -> None:
    edit(folder, name, old, new)
    with pytest.raises(DataError, match=message):
        read_images(folder, "IJBB")


SPELLINGS = [
    lambda text: "\ufeff" + text,
    lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    lambda text: text.replace(" ", "\t"),
    lambda text: text.replace(" ", "\t", 3),
    lambda text: text.replace(" ", "   ").replace("\n", " \n"),
    lambda text: text.replace("\n", "\r"),
    lambda text: text + "\n\n  \n",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_as_other_programs_write_it(folder: Path, spelling) -> None:
    images, pairs = read_images(folder, "IJBB"), read_pairs(folder, "IJBB")
    for path in (folder / "meta").iterdir():
        path.write_bytes(spelling(path.read_text()).encode())
    again, same_pairs = read_images(folder, "IJBB"), read_pairs(folder, "IJBB")
    assert again.names == images.names and np.array_equal(again.landmarks, images.landmarks)
    assert np.array_equal(again.templates, images.templates) and np.array_equal(again.medias, images.medias)
    assert np.array_equal(same_pairs.first, pairs.first) and np.array_equal(same_pairs.same, pairs.same)


def test_utf16_and_backslashes(folder: Path) -> None:
    (folder / "loose_crop" / "img").mkdir()
    (folder / "loose_crop" / "2.jpg").rename(folder / "loose_crop" / "img" / "2.jpg")
    for path in (folder / "meta").iterdir():
        path.write_bytes(b"\xff\xfe" + path.read_text().replace("2.jpg", "img\\2.jpg").encode("utf-16-le"))
    assert read_images(folder, "IJBB").names == ["1.jpg", "img/2.jpg", "3.jpg", "4.jpg"]
    assert len(read_pairs(folder, "IJBB")) == 1


def test_pairs_refused(folder: Path) -> None:
    edit(folder, "ijbb_template_pair_label.txt", "1 2 1", "1 2 2")
    with pytest.raises(DataError, match="line 1 has the label 2"):
        read_pairs(folder, "IJBB")


# --- Columns of numbers, and the line of what does not fit ------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "table.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_integers(tmp_path: Path, end: str) -> None:
    values = integers(write(tmp_path, f"1 20 0\n3 400000 1{end}"), 3)
    assert values.dtype == np.int64 and values.tolist() == [[1, 20, 0], [3, 400000, 1]]


def test_integers_written_as_decimals(tmp_path: Path) -> None:
    assert integers(write(tmp_path, "1 2 0.0\n3 4.00 1.\n"), 3).tolist() == [[1, 2, 0], [3, 4, 1]]


def test_integers_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "".join(f"{row} {row + 1}{' ' * (row % 7 == 0)} 1\n" for row in range(300)))
    path.write_text(path.read_text() + "\n" * 50)
    for size in (16, 33, 500):
        monkeypatch.setattr(metadata, "line_blocks", lambda path, what, size=size: line_blocks(path, what, size))
        values = integers(path, 3)
        assert values.tolist() == [[row, row + 1, 1] for row in range(300)]
        with pytest.raises(DataError, match="line 301 is ''"):
            integers(write(tmp_path / "more", path.read_text() + "1 2 1\n"), 3)


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
        ("1  0\n1 2-3 0\n", "line 1 is '1  0'"),
        ("1 2 0\n1 2 nan\n", "line 2 is '1 2 nan'"),
        ("1 2 0\n1 2 1e300\n", "line 2 is '1 2 1e300'"),
        (f"1 2 0\n1 {2**63} 0\n", "line 2 is '1 9223372036854775808 0'"),
        (f"1 2 0\n1 {'9' * 5000} 0\n", "line 2 is '1 9"),
        ("1 2 0\n1 2\0 0\n", "line 2 is '1 2"),
        ("1 2 0\n\n\n1 2 0\n", "line 2 is ''"),
        ("\n1 2 0\n", "line 1 is ''"),
        (" \n\n", "the file is empty"),
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
    with pytest.raises(DataError, match="No such file or directory"):
        integers(tmp_path / "absent.txt", 3)

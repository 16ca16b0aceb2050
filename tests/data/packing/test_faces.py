"""What is to be packed: folders, lists, several of both."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from photographs import jpeg, save

from qgface_plugin.data.packing.faces import list_faces
from qgface_plugin.data.packing.pack import pack_faces
from qgface_plugin.data.packing.record_set import PackOptions
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError, DataError


def test_several_folders(tmp_path: Path) -> None:
    for folder, names in (("x", "bc"), ("y", "ab")):
        for name in names:
            save(tmp_path / folder / name / "1.jpg", jpeg(ord(name)))
    folders = [tmp_path / "x", tmp_path / "y"]
    with pytest.raises(
        DataError, match="1 identities have a name .*, the first b in .*x and .*y: .*--same-names merge.*separate"
    ):
        list_faces(folders)
    for same_names, labels in (("merge", [0, 1, 1, 2]), ("separate", [0, 1, 2, 3])):
        out = tmp_path / same_names
        pack_faces(list_faces(folders, same_names=same_names), out, PackOptions(size=24))
        assert FaceRecords(out).labels().tolist() == labels
    assert (tmp_path / "separate" / "identities.tsv").read_text() == "0\tb\n1\tc\n2\ta\n3\tb\n"
    assert str(tmp_path / "y" / "a" / "1.jpg") in (tmp_path / "merge" / "train.lst").read_text()


def loose_image(folder: Path) -> list[Path]:
    save(folder / "1.jpg", jpeg(1))
    return [folder]


def one_list(text: bytes) -> Callable[[Path], list[Path]]:
    return lambda folder: [save(folder / "in.lst", text)]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (lambda folder: [], "nothing to pack"),
        (lambda folder: [folder / "none"], "none: no such folder or list"),
        (lambda folder: [folder], "in: no sub-folder in it"),
        (loose_image, "in: no sub-folder in it; 1 images"),
        (lambda folder: [*one_list(b"1\ta.jpg\t0\n")(folder), folder / ".." / "in" / "in.lst"], "is named twice"),
        (one_list(b""), "in.lst: the list is empty"),
        (one_list(b"\xff\xfe1"), "in.lst: .*not text in UTF-8"),
        (one_list(b"a.jpg 1\n"), "in.lst line 1: neither"),
        (one_list(b"1\ta.jpg\t0\n1\tb.jpg\n"), "in.lst line 2: neither"),
        (one_list(b"1\ta.jpg\tzero\n"), "line 1: label 'zero'"),
        (one_list(b"1\ta.jpg\t0.5\n"), "line 1: label '0.5'"),
        (one_list(b"1\ta.jpg\t-1\n"), "line 1: label '-1'"),
        (one_list(b"1\ta.jpg\tnan\n"), "line 1: label 'nan'"),
        (one_list(b"1\ta.jpg\t1e300\n"), "line 1: label '1e300'"),
        (one_list(b"1\ta.jpg\t" + b"9" * 5000), "line 1: label '9"),
        (one_list(b"1\ta.jpg\t0\n1\ta\0.jpg\t0\n"), "in.lst line 2: a NUL byte"),
        (one_list(b"9" * 5000 + b"\t1\ta.jpg\n"), "line 1: not `key TAB label TAB path`"),
        (one_list(b"0\t1\tinf\ta.jpg\n"), "line 1: not `key TAB label TAB path`"),
        (one_list(b"0\t1\ta.jpg\n1\tx\tb.jpg\n"), "line 2: not `key TAB label TAB path`"),
        (one_list(b"1\ta.jpg\t0\n1\ta.jpg\t1\n"), "1 paths are listed more than once, the first .*a.jpg \\(2 times\\)"),
    ],
)
def test_sources_that_do_not_fit(sources: Callable[[Path], list[Path]], message: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=message):
        list_faces(sources(tmp_path / "in"))


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf1\ta/1.jpg\t0\r\n1\tb/1.jpg\t1\r\n",
        b"1\ta\\1.jpg\t0\n1\tb\\1.jpg\t1\n",
        b'1.0\t"a/1.jpg"\t0.0\n1.0\tb/1.jpg\t1.0\n',
        b"0\t0.000000\ta\\1.jpg\r1\t1\tb/1.jpg\r",
        b"\xff\xfe" + "1\ta/1.jpg\t0\n1\tb/1.jpg\t1\n".encode("utf-16-le"),
    ],
)
def test_lists_as_other_programs_write_them(text: bytes, tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg"):
        save(tmp_path / name, jpeg(1))
    found = list_faces([save(tmp_path / "in.lst", text)])
    assert [face.path for face in found.faces] == [str(tmp_path / "a/1.jpg"), str(tmp_path / "b/1.jpg")]
    assert [face.name for face in found.faces] == ["a/1.jpg", "b/1.jpg"]
    assert [face.identity[1] for face in found.faces] == ["0", "1"]


def test_a_list_of_names_that_are_no_utf8(tmp_path: Path) -> None:
    save(Path(os.fsdecode(os.fsencode(tmp_path) + b"/Jos\xe9/1.jpg")), jpeg(1))
    (face,) = list_faces([save(tmp_path / "in.lst", b"1\tJos\xe9/1.jpg\t0\n")]).faces
    assert os.fsencode(face.name) == b"Jos\xe9/1.jpg" and Path(face.path).is_file()


def test_names_that_a_list_cannot_hold(tmp_path: Path) -> None:
    save(tmp_path / "faces" / "a" / "1\t2.jpg", jpeg(1))
    with pytest.raises(DataError, match="2.jpg.*: a tab or line break"):
        list_faces([tmp_path / "faces"])


def test_what_is_passed_over(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    for number in range(9):
        save(faces / f"person{number % 3}" / f"{number}.png", jpeg(number))
    save(faces / "person0" / "notes.txt", b"x")
    save(faces / "person0" / ".hidden.png", b"x")
    save(faces / "person0" / "Thumbs.db", b"x")
    found = list_faces([faces])
    assert (len(found.faces), found.passed_over, found.problems) == (9, 1, [])
    with pytest.raises(ConfigError, match="same_names is 'x'"):
        list_faces([faces], same_names="x")

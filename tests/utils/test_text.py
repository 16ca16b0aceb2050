"""The one reader of text: how a text is written does not matter, what it says does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from photographs import save

from qgface_plugin.utils.errors import DataError
from qgface_plugin.utils.text import (
    LARGEST,
    fields_of,
    finite_number,
    line_blocks,
    meant_path,
    read_csv,
    read_json,
    read_lines,
    read_text,
    regular_table,
    whole_number,
)

TEXT = "änne 1\n\nbert 2\n"


def spellings(text: str) -> dict[str, bytes]:
    """A text as other programs write it."""
    return {
        "plain": text.encode(),
        "no last line end": text.removesuffix("\n").encode(),
        "mark": text.encode("utf-8-sig"),
        "mark, CRLF": text.replace("\n", "\r\n").encode("utf-8-sig"),
        "CRLF": text.replace("\n", "\r\n").encode(),
        "CR": text.replace("\n", "\r").encode(),
        "UTF-16, little": b"\xff\xfe" + text.encode("utf-16-le"),
        "UTF-16, big, CRLF": b"\xfe\xff" + text.replace("\n", "\r\n").encode("utf-16-be"),
    }


@pytest.mark.parametrize("spelling", spellings(""))
def test_how_it_is_written_does_not_matter(spelling: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", spellings(TEXT)[spelling])
    assert read_text(path, "list").rstrip("\n") == TEXT.rstrip("\n")
    assert read_lines(path, "list") == [(1, "änne 1"), (3, "bert 2")]
    assert b"".join(line_blocks(path, "list")).rstrip(b"\n") == TEXT.rstrip("\n").encode()
    table = save(tmp_path / "b.csv", spellings('a,"b,c"\n\n"d"\n')[spelling])
    assert list(read_csv(table, "list")) == [(1, ["a", "b,c"]), (3, ["d"])]
    assert read_json(save(tmp_path / "c.json", spellings('{"ä": [1]}\n')[spelling]), "list") == {"ä": [1]}


def test_names_keep_their_bytes_and_lines_end_where_they_end(tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", "a\x0cb\x85\u2028c\xa0d 1".encode() + b"\nJos\xe9 2\n")
    (_, odd), (_, jose) = read_lines(path, "list")
    assert fields_of(odd) == ["a\x0cb\x85\u2028c\xa0d", "1"] and os.fsencode(fields_of(jose)[0]) == b"Jos\xe9"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a 1\nb\x00 2\n", "a.txt line 2: a NUL byte"),
        ("a 1\n".encode("utf-16-le"), "a.txt line 1: a NUL byte: no list, or text in UTF-16 without a byte order mark"),
        (b"\xff\xfea", "a.txt: no list: not text in UTF-8, nor in UTF-16"),
        (b"\xfe\xff\xd8\x00\x00a", "a.txt: no list: not text in UTF-8, nor in UTF-16"),
    ],
)
def test_what_is_no_text(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_text(save(tmp_path / "a.txt", data), "list")


@pytest.mark.parametrize("error", ["folder", "absent"])
def test_what_cannot_be_read(error: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the list cannot be read"):
        read_text(tmp_path if error == "folder" else tmp_path / "none", "list")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n", [["a", "b"]]),
        ("a;b c\n1;2\n", [["a", "b c"], ["1", "2"]]),
        ('a\t"b"\n', [["a", "b"]]),
        (' a , "b, ""c""",\n', [["a", 'b, "c"', ""]]),
        ("\n,,\n a,b;c\n", [["a", "b;c"]]),
    ],
)
def test_csv(text: str, rows: list[list[str]], tmp_path: Path) -> None:
    assert [fields for _, fields in read_csv(save(tmp_path / "a.csv", text.encode()), "list")] == rows


@pytest.mark.parametrize("text", ['a,b\n"c,d\n', 'a,b\n"c"d,e\n', "a,b\n" + "c" * 200_000 + "\n"])
def test_what_is_no_csv(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.csv line 2: no row of a CSV"):
        list(read_csv(save(tmp_path / "a.csv", text.encode()), "list"))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[1" + "0" * 5000 + "]", "\x00"])
def test_what_is_no_json(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.json"):
        read_json(save(tmp_path / "a.json", text.encode()), "list")


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "inf", "-Infinity", "1e300", "1e9999", "1_0", "0x1", "1,5", "\u0661", "9" * 5000]
)
def test_no_numbers(text: str) -> None:
    assert finite_number(text) is None and whole_number(text) is None


def test_numbers() -> None:
    texts = ["1", " -1.5 ", "+.5", "5.", "4E-1", str(LARGEST), "0" * 30 + "1"]
    assert [finite_number(text) for text in texts] == [1.0, -1.5, 0.5, 5.0, 0.4, float(LARGEST), 1.0]
    texts = ["1", "001", " 7.0 ", "7.", "-3", str(LARGEST)]
    assert [whole_number(text) for text in texts] == [1, 1, 7, 7, -3, LARGEST]
    assert [whole_number(text) for text in ("1.5", "1e3", ".0", str(LARGEST + 1), str(2**63))] == [None] * 5


def test_the_path_that_is_meant(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b\\1.jpg", "b/1.jpg", "Roe, Jane/1.jpg", '"q".jpg'):
        save(tmp_path / name, b"x")
    assert meant_path(tmp_path, "a\\1.jpg") == "a/1.jpg"
    assert meant_path(tmp_path, "b\\1.jpg") == "b\\1.jpg"  # a file has just this name
    assert meant_path(tmp_path, '"Roe, Jane\\1.jpg"') == "Roe, Jane/1.jpg"
    assert meant_path(tmp_path, '"q".jpg') == '"q".jpg' and meant_path(tmp_path, '"""q"".jpg"') == '"q".jpg'
    for name in ("none\\1.jpg", "", '""', "a", "x" * 300 + "\\1.jpg"):
        assert meant_path(tmp_path, name) == name


def test_blocks_are_whole_lines(tmp_path: Path) -> None:
    lines = [b"%d\t%d" % (number, number * number) for number in range(500)]
    for end in (b"\n", b"\r\n", b"\r"):
        path = save(tmp_path / "a.idx", b"\xef\xbb\xbf" + end.join(lines) + end)
        for size in (8, 13, 64, 1 << 20):
            blocks = list(line_blocks(path, "index", size))
            assert all(block.endswith(b"\n") for block in blocks) and b"".join(blocks).split(b"\n")[:-1] == lines
    with pytest.raises(DataError, match="a.idx: a line of more than 64 bytes"):
        list(line_blocks(save(tmp_path / "a.idx", b"1" * 200), "index", 64))


def test_regular_tables() -> None:
    for text in (b"1 2\t3\n4 5 6", b"1\t2\t3\n4\t5\t6\n"):
        assert regular_table(text, 3).tolist() == [[1, 2, 3], [4, 5, 6]]
    for text in (
        b"1 2\n3 4 5 6\n",
        b"1  2\n",
        b"1 2 3 \n",
        b"1 2 -3",
        b"1 2 3\n\n",
        b" 1 2 3",
        b"1 2 3\0",
        b"1 2 \xb3",
    ):
        assert regular_table(text, 3) is None
    assert regular_table(b"1 2 " + b"9" * 18, 3).tolist() == [[1, 2, 10**18 - 1]]
    assert regular_table(b"1 2 " + b"9" * 19, 3) is None
    assert regular_table(b"7", 1).dtype == np.int64


def test_a_name_that_an_object_has_twice(tmp_path: Path) -> None:
    """json keeps the last of them, in silence."""
    (tmp_path / "x.json").write_text('{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}')
    with pytest.raises(DataError, match="x.json: not JSON .*'c' is there twice"):
        read_json(tmp_path / "x.json", "x")

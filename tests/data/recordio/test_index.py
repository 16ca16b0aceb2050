"""Index files: any order, odd white space, and every malformed line named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qgface_plugin.data.recordio.index import index_line, read_index
from qgface_plugin.utils.errors import DataError


def read(tmp_path: Path, text: bytes) -> tuple[list[int], list[int]]:
    path = tmp_path / "train.idx"
    path.write_bytes(text)
    keys, offsets = read_index(path)
    assert keys.dtype == offsets.dtype == np.int64
    return keys.tolist(), offsets.tolist()


@pytest.mark.parametrize(
    "text",
    [
        b"0\t0\n1\t40\n7\t999999999999999996\n",
        b"0\t0\n1\t40\n7\t999999999999999996",
        b"7\t999999999999999996\n0\t0\n1\t40\n",
        b"0\t0\r\n1\t40\r\n7\t999999999999999996\r\n",
        b"0 0\n\n 1   40 \n7\t\t999999999999999996\n\n",
        b"00\t0\n01\t040\n7\t999999999999999996\n",
    ],
)
def test_lines_in_any_order_and_spacing(text: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, text) == ([0, 1, 7], [0, 40, 999999999999999996])


def test_many_lines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    offsets = np.cumsum(rng.integers(3, 4000, 50_000)) * 4
    order = rng.permutation(len(offsets))
    text = b"".join(index_line(int(key), int(offsets[key])) for key in order)
    keys, found = read(tmp_path, text)
    assert keys == list(range(len(offsets))) and found == offsets.tolist()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"5", "b'5'"),
        (b"5\t", "b'5"),
        (b"\t80", "80'"),
        (b"5\t80\t1", "b'5"),
        (b"5\t-80", "-80"),
        (b"-5\t80", "b'-5"),
        (b"5.0\t80", "b'5.0"),
        (b"five\t80", "b'five"),
        (b"5\t1e3", "1e3"),
        (b"5\t1_0", "1_0"),
        (b"5\t9999999999999999999", "9999999999999999999"),
        (b"\xff\xfe\t80", "xff"),
        (b"5\t8\x000", "x000"),
    ],
)
def test_malformed_line_is_named(line: bytes, shown: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.idx line 3: .*is not `key TAB offset`") as error:
        read(tmp_path, b"0\t0\n1\t40\n" + line + b"\n2\t44\n")
    assert shown in str(error.value)


def test_lines_that_only_add_up_are_malformed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1"):
        read(tmp_path, b"0\n0\t1\t40\n")


def test_key_given_twice_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.idx line 4: key 1 is already on line 2"):
        read(tmp_path, b"0\t0\n1\t40\n2\t80\n1\t120\n")


def test_unaligned_offset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.idx line 3: key 1 has offset 42, but records begin at multiples of 4"):
        read(tmp_path, b"0\t0\n\n1\t42\n")


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf0\t0\n1\t40\n",
        b"\xef\xbb\xbf0\t0\r\n1\t40\r\n",
        b"0\t0\r1\t40\r",
        b"\xff\xfe" + "0\t0\n1\t40\n".encode("utf-16-le"),
        b"\xef\xbb\xbf1\t40\n\n0 0",
    ],
)
def test_as_other_programs_write_it(text: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, text) == ([0, 1], [0, 40])
    with pytest.raises(DataError, match=r"train\.idx line [34]: .*five.*is not `key TAB offset`"):
        read(tmp_path, text + ("\nfive\t80".encode("utf-16-le") if text[:1] == b"\xff" else b"\nfive\t80"))


@pytest.mark.parametrize("text", [b"", b"\n", b"  \n\n"])
def test_empty_index(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.idx: the index is empty"):
        read(tmp_path, text)


def test_blocks_are_read_as_one_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"".join(index_line(key, 4 * key) for key in range(200)) + b" 200   800 \n\n201\t804"
    for size in (16, 17, 64, 1000, 1 << 20):
        monkeypatch.setattr("qgface_plugin.data.recordio.index.BLOCK", size)
        assert read(tmp_path, text) == (list(range(202)), list(range(0, 808, 4)))
        with pytest.raises(DataError, match="train.idx line 151: b'150.*x600' is not"):
            read(tmp_path, text.replace(b"150\t", b"150\tx"))
        with pytest.raises(DataError, match="train.idx line 204: key 7 is already on line 8"):
            read(tmp_path, text + b"\n7\t28")
        with pytest.raises(DataError, match="train.idx line 101: key 100 has offset 402"):
            read(tmp_path, text.replace(b"\t400\n", b"\t402\n"))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgface_plugin.data.recordio.index.BLOCK", 64)
    for line in (b"1\t4" + b" " * 200, b"5" * 200, b" " * 200):
        with pytest.raises(DataError, match="train.idx: a line of more than 64 bytes"):
            read(tmp_path, b"0\t0\n" + line + b"\n2\t8\n")

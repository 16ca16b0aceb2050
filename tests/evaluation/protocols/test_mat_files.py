"""Our reader of .mat files: SciPy's values for what SciPy writes, and bounded refusals for everything else."""

from __future__ import annotations

import io
import itertools
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from identification_sets import cells
from scipy.io import loadmat, savemat

from qgface_plugin.evaluation.protocols import mat_files
from qgface_plugin.evaluation.protocols.mat_files import read_mat
from qgface_plugin.utils.errors import DataError


def plain(value: Any) -> Any:
    """A value as lists, so that ours and SciPy's compare: SciPy has arrays of one string for our strings."""
    if isinstance(value, str):
        return [value]
    if value.dtype.kind == "O":
        return value.shape, [plain(item) for item in value.ravel().tolist()]
    if value.dtype.kind == "U":
        return value.tolist()
    return value.shape, value.dtype.str, value.tolist()


def grid(*rows: list) -> np.ndarray:
    found = np.empty((len(rows), len(rows[0])), dtype=object)
    for at in itertools.product(*map(range, found.shape)):
        found[at] = rows[at[0]][at[1]]
    return found


VARIABLES = {
    "names": cells(["1_1.jpg", "a", "ab", "abc", "abcd", "abcde", "abcdefgh", "abcdefghi", " with blanks "]),
    "across": cells(["x.jpg", "y.jpg"]).T,
    "not_ascii": cells(["Zoë.jpg", "张伟_1.jpg", "é", "😀.png"]),
    "nested": cells([cells(["a"]), cells([cells(["b", "c"])]), "d"]),
    "with_empty": cells(["", "a", np.zeros((0, 0)), np.empty((0, 0), dtype=object)]),
    "square": grid(["a", "b", "c"], ["d", np.arange(3), cells(["e"])]),
    "matrix": np.array(["12_3.jpg", "1_1.jpg", "é"]),
    "cube": np.array([["ab", "c"], ["d", "ef"], ["g", "hi"]]),
    "no_cells": np.empty((0, 1), dtype=object),
    "a_string": "text",
    "no_string": "",
    "truth": np.array([[True, False]]),
    "nothing": np.zeros((0, 3)),
    "cubes": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "one": 5,
    "floats": np.array([0.5, np.nan, np.inf, 1e300]),
    **{f"n_{t}": np.arange(7).astype(t).reshape(7, 1)
       for t in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")},
}  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("long_names", [False, True])
@pytest.mark.parametrize("along", ["row", "column"])
def test_what_scipy_writes(tmp_path: Path, compressed: bool, long_names: bool, along: str) -> None:
    path = tmp_path / "x.mat"
    variables = {**VARIABLES, "n" * (60 if long_names else 31): np.arange(3)}
    savemat(path, variables, do_compression=compressed, long_field_names=long_names, oned_as=along)
    expected = loadmat(path)
    found = read_mat(path, variables)
    assert found.keys() == variables.keys()
    for name, value in found.items():
        if name == "floats":
            np.testing.assert_array_equal(value, expected[name])
        else:
            assert plain(value) == plain(expected[name]), name
    assert found["names"][0, 0] == "1_1.jpg" and found["names"][8, 0] == " with blanks "  # kept as they are
    assert found["square"][1, 0] == "d" and found["cubes"].tolist() == VARIABLES["cubes"].tolist()


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"a": np.arange(3), "s": {"x": 1}, "c": np.array([1j]), "b": "text"})
    assert read_mat(path, ["b", "absent"]) == {"b": "text"}
    with pytest.raises(DataError, match=r"x.mat: at byte \d+: s: a struct; numbers, text and cells of both are read"):
        read_mat(path, ["s"])
    with pytest.raises(DataError, match="c: complex numbers"):
        read_mat(path, ["c"])


# --- files of other programs, made by hand ----------------------------------------------------------------------------


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def small(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "I", len(content) << 16 | kind) + content.ljust(4, b"\0")


def array(kind: int, dimensions: tuple[int, ...], content: bytes, name: str = "", order: str = "<") -> bytes:
    head = element(6, struct.pack(order + "II", kind, 0), order)
    head += element(5, struct.pack(f"{order}{len(dimensions)}i", *dimensions), order)
    return element(14, head + element(1, name.encode(), order) + content, order)


def mat(*variables: bytes, order: str = "<") -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", 0x100) + (
        b"IM" if order == "<" else b"MI"
    ) + b"".join(variables)  # fmt: skip


def read(path: Path, data: bytes, *names: str) -> dict[str, Any]:
    path.write_bytes(data)
    return read_mat(path, names or ["x"])


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_all_kinds_of_characters(tmp_path: Path, order: str) -> None:
    utf16, utf32 = (f"utf-{bits}-{'le' if order == '<' else 'be'}" for bits in (16, 32))
    texts = [
        array(4, (1, 2), small(16, b"ab", order), order=order),
        array(4, (1, 5), element(16, b"abcde", order), order=order),
        array(4, (1, 2), element(4, "é1".encode(utf16), order), order=order),  # MATLAB's -v6
        array(4, (1, 2), small(17, "é1".encode(utf16), order), order=order),
        array(4, (1, 3), element(17, "a😀".encode(utf16), order), order=order),  # counted in halves, as MATLAB does
        array(4, (1, 3), element(16, "a😀".encode(), order), order=order),
        array(4, (1, 1), element(18, "é".encode(utf32), order), order=order),
        array(4, (1, 1), small(2, b"\xe9", order), order=order),
        array(4, (1, 1), small(1, b"e", order), order=order),
        array(4, (1, 1), small(16, b"e", order), order=order).replace(b"e\0\0\0", b"e\1\2\3"),  # padding may be any
    ]
    numbers = array(6, (2, 1), element(4, struct.pack(order + "HH", 7, 300), order), "y", order)
    found = read(
        tmp_path / "x.mat", mat(array(1, (len(texts), 1), b"".join(texts), "x", order), numbers, order=order), "x", "y"
    )
    assert found["x"][:, 0].tolist() == ["ab", "abcde", "é1", "é1", "a😀", "a😀", "é", "é", "e", "e"]
    assert found["y"].tolist() == [[7], [300]] and found["y"].dtype == np.uint16


TEXT = array(4, (1, 1), small(16, b"a"), "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no .mat file of level 5"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "format 7.3"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400), r"format 7.3 \(HDF5\).*'-v7'"),
        (struct.pack("<5I", 0, 1, 1, 0, 2) + b"x\0" + bytes(8), "of level 4"),
        (b"a" * 128, "no header of one"),
        (mat(b"12345"), "at byte 128: 5 bytes that are no variable"),
        (mat(element(9, bytes(8))), "at byte 128: an element of type 9, where a variable should begin"),
        (mat(TEXT)[:-1], r"a variable of \d+ bytes, \d+ are left"),
        (mat(TEXT, TEXT), "a second variable x"),
        (mat(array(4, (1, 1), small(16, b"\xff"), "x")), "characters that are not utf-8"),
        (mat(array(4, (1, 2), small(16, b"a"), "x")), r"1 characters for dimensions \(1, 2\)"),
        (mat(array(4, (2, 2), element(16, "aé😀".encode()), "x")), r"3 characters for dimensions \(2, 2\)"),
        (mat(array(4, (1, 1), small(9, b"a"), "x")), "characters of type 9"),
        (mat(array(4, (1, 99_999_999), b"", "x")), "0 bytes left, where an element should begin"),
        (mat(array(4, (1, 99_999_999), element(16, b""), "x")), "text of more than"),
        (mat(array(4, (1, 1), small(16, b"a") + bytes(8), "x")), "8 bytes left over"),
        (mat(array(4, (-1, 1), small(16, b"a"), "x")), r"dimensions \(-1, 1\)"),
        (mat(array(6, (1 << 30, 1 << 30), element(9, bytes(8)), "x")), "8 bytes for"),
        (mat(array(6, (1, 1), small(16, b"a"), "x")), "numbers of type 16"),
        (mat(array(6, (1,), element(9, bytes(8)), "x")), "where dimensions should be"),
        (mat(array(1, (1 << 30, 1), TEXT, "x")), "cells"),
        (mat(array(1, (1, 1), TEXT + TEXT, "x")), "bytes after the last cell"),
        (mat(array(1, (1, 1), element(9, bytes(8)), "x")), "type 9, where a cell should be"),
        (mat(array(17, (1, 1), b"", "x")), "an object"),
        (mat(array(99, (1, 1), b"", "x")), "an array of class 99"),
        (mat(element(15, b"abcdefgh")), "a compressed variable that is damaged"),
        (mat(element(15, zlib.compress(element(9, bytes(8))))), "type 9, not a variable"),
        (mat(struct.pack("<II", 15, 20) + zlib.compress(TEXT)[:20]), "damaged|where"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"x.mat: .*(?:{message})"):
        read(tmp_path / "x.mat", data)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", ".", "pipe"):
        with pytest.raises(DataError, match="x|absent|pipe|file"):
            read_mat(tmp_path / name, ["x"])


def test_cells_deeper_than_any_list(tmp_path: Path) -> None:
    data = TEXT
    for _ in range(17):
        data = array(1, (1, 1), data, "x")
    with pytest.raises(DataError, match="deeper than 16"):
        read(tmp_path / "x.mat", mat(data))


@pytest.mark.parametrize("compressed", [False, True])
def test_every_damaged_byte_of_a_compressed_variable_is_noticed(tmp_path: Path, compressed: bool) -> None:
    out = io.BytesIO()
    savemat(out, {"x": cells(["1_1.jpg", "22_333.jpg", "é"])}, do_compression=compressed)
    whole = out.getvalue()
    path = tmp_path / "x.mat"
    expected = plain(read(path, whole)["x"])
    for at in range(128, len(whole)):
        for bit in (1, 128):
            data = bytearray(whole)
            data[at] ^= bit
            try:
                found = read(path, bytes(data)).get("x")
            except DataError as error:
                assert "x.mat" in str(error)
            else:
                assert not compressed or plain(found) == expected
    for size in range(128 + 1, len(whole)):
        with pytest.raises(DataError):
            read(path, whole[:size])


def test_a_file_that_expands_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = array(9, (1, 1 << 28), b"", "x")[8:] + struct.pack("<II", 2, 1 << 28)
    inflated = struct.pack("<II", 14, len(huge) + (1 << 28)) + huge
    stream = zlib.compressobj()
    packed = stream.compress(inflated) + b"".join(stream.compress(bytes(1 << 20)) for _ in range(256)) + stream.flush()
    path = tmp_path / "x.mat"
    path.write_bytes(mat(struct.pack("<II", 15, len(packed)) + packed))
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(DataError, match=f"x takes .* more than {mat_files.MOST_BYTES} are not read"):
        read_mat(path, ["x"])
    assert read_mat(path, ["y"]) == {}
    assert tracemalloc.get_traced_memory()[1] < 4 << 20 and time.process_time() - began < 2
    tracemalloc.stop()


def test_many_names(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    names = [f"distractor_{number}.jpg" for number in range(20_000)]
    savemat(path, {"x": cells(names)}, do_compression=True)
    assert read_mat(path, ["x"])["x"][:, 0].tolist() == names

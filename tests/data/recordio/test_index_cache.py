"""The copy of a long index: equal to what is parsed, made anew when a file has changed, never needed."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import FOLDER

from qgface_plugin.data.recordio import index_cache
from qgface_plugin.data.recordio.index import read_index
from qgface_plugin.data.recordio.index_cache import open_index
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The golden set, of which an index of 13 lines counts as long."""
    monkeypatch.setattr(index_cache, "CACHED_FROM", 13)
    return Path(shutil.copytree(FOLDER / "insightface", tmp_path / "set"))


def opened(folder: Path) -> tuple[list[int], list[int], bool]:
    """Keys, offsets, and whether they come from the copy."""
    keys, offsets = open_index(folder / "train.idx", folder / "train.rec")
    assert keys.dtype == offsets.dtype == np.int64
    return keys.tolist(), offsets.tolist(), not keys.flags.writeable


def parsed(folder: Path) -> tuple[list[int], list[int]]:
    keys, offsets = read_index(folder / "train.idx")
    return keys.tolist(), offsets.tolist()


def test_the_copy_is_what_is_parsed(folder: Path) -> None:
    expected = parsed(folder)
    for _ in range(2):
        assert opened(folder) == (*expected, True)
    assert sorted(path.name for path in folder.iterdir()) == ["property", "train.idx", "train.idx.cache", "train.rec"]
    source = FaceRecords(folder)
    assert source.labels().tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert [source.read(index)[1] for index in range(9)] == source.labels().tolist()


def test_a_short_index_has_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "CACHED_FROM", 14)
    assert opened(folder) == (*parsed(folder), False)
    assert not (folder / "train.idx.cache").exists()


@pytest.mark.parametrize("name", ["train.idx", "train.rec"])
@pytest.mark.parametrize("change", ["size", "time"])
def test_it_is_made_anew_when_a_file_has_changed(folder: Path, name: str, change: str) -> None:
    opened(folder)
    path, before = folder / name, (folder / "train.idx.cache").read_bytes()
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    if change == "size":
        lines = (folder / "train.idx").read_bytes().splitlines(keepends=True)
        path.write_bytes(path.read_bytes() + bytes(4) if name == "train.rec" else b"".join(lines) + b"99\t0\n")
        os.utime(path, ns=times)
    else:
        os.utime(path, ns=(times[0], times[1] + 1))
    assert opened(folder) == (*parsed(folder), True)
    assert (folder / "train.idx.cache").read_bytes() != before


def test_an_index_of_the_same_size_with_other_offsets(folder: Path) -> None:
    opened(folder)
    lines = (folder / "train.idx").read_bytes().splitlines(keepends=True)
    swapped = [b"2\t" + lines[3].split(b"\t")[1], b"3\t" + lines[2].split(b"\t")[1]]
    (folder / "train.idx").write_bytes(b"".join([*lines[:2], *swapped, *lines[4:]]))
    assert opened(folder) == (*parsed(folder), True)


def test_a_damaged_copy_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = (*parsed(folder), True)
    opened(folder)
    copy = folder / "train.idx.cache"
    whole = copy.read_bytes()
    for at in range(len(whole)):
        copy.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert opened(folder) == expected, at
        assert copy.read_bytes() == whole
    assert "train.idx.cache is damaged; the index is parsed again" in caplog.text
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        copy.write_bytes(whole[:length])
        assert opened(folder) == expected, length
    copy.write_bytes(whole + b"x")
    assert opened(folder) == expected


def test_a_folder_that_cannot_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:  # noqa: ANN001
    def refuse(source: object, target: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with caplog.at_level(logging.INFO):
        assert opened(folder) == (*parsed(folder), False)
    assert "train.idx.cache is not written (Permission denied)" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == ["property", "train.idx", "train.rec"]


def test_errors_are_those_of_the_parser(folder: Path) -> None:
    opened(folder)
    (folder / "train.idx").write_bytes(b"0\t0\n1\t2\n")
    with pytest.raises(DataError, match="train.idx line 2: key 1 has offset 2"):
        opened(folder)
    (folder / "train.idx").unlink()
    with pytest.raises(DataError, match="train.idx: the index cannot be read"):
        opened(folder)


def test_a_worker_opens_the_copy_again(folder: Path) -> None:
    source = FaceRecords(folder)
    data = pickle.dumps(source._shards[0].reader)
    assert len(data) < 1000  # neither index nor records travel
    reader = pickle.loads(data)
    assert bytes(reader.read(3)) == bytes(source._shards[0].reader.read(3))
    (folder / "train.idx.cache").unlink()
    assert bytes(pickle.loads(data).read(3)) == bytes(reader.read(3))

"""The mark of evaluation data: another one after every change that an evaluation could notice."""

from __future__ import annotations

import os

import pytest

from qgface_plugin.evaluation.data_mark import ENDS, data_mark


@pytest.fixture
def data(tmp_path):
    for name in ("meta/list.txt", "loose_crop/1.jpg", "loose_crop/2.jpg", "dev.bin"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 50)
    return tmp_path / "set"


def rewrite(path, content: bytes) -> None:
    """Other content of the same length, and the time of before."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "a list": lambda data: rewrite(data / "meta/list.txt", b"x" * 13 * 50),
    "removed": lambda data: (data / "loose_crop/1.jpg").unlink(),
    "added": lambda data: (data / "loose_crop/3.jpg").touch(),
    "renamed": lambda data: (data / "loose_crop/1.jpg").rename(data / "loose_crop/9.jpg"),
    "an image": lambda data: (data / "loose_crop/1.jpg").write_bytes(b"short"),
    "a time": lambda data: os.utime(data / "loose_crop/1.jpg", (1e9, 1e9)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_another_mark(data, change):
    before = data_mark(data, "ijbb")
    assert before == data_mark(data, "ijbb")
    CHANGES[change](data)
    assert data_mark(data, "ijbb") != before


def test_what_evaluations_write_and_systems_leave_is_no_change(data):
    before = data_mark(data, "ijbb")
    for name in ("features/faces-0/original.npy", "results/ijbb.json", ".DS_Store"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"x")
    assert data_mark(data, "ijbb") == before


def test_pair_sets_alone_count_for_pairs(data):
    before = data_mark(data, "pairs")
    (data / "loose_crop/1.jpg").unlink()
    assert data_mark(data, "pairs") == before != data_mark(data / "dev.bin", "pairs")
    rewrite(data / "dev.bin", b"y" * 7 * 50)
    assert data_mark(data, "pairs") != before


def test_the_end_of_a_large_set_counts_and_no_data_have_no_mark(data):
    path = data / "large.bin"
    path.write_bytes(bytes(3 * ENDS))
    before = data_mark(path, "pairs")
    rewrite(path, bytes(3 * ENDS - 1) + b"z")
    assert data_mark(path, "pairs") != before and data_mark(data / "absent", "pairs") == ""

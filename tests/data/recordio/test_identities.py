"""A large file is checked by its identity records: believed only when they are as usual, and then watched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import FOLDER, draw, png

from qgface_plugin.data.recordio import Header, RecordReader, RecordWriter, identities, labels, pack
from qgface_plugin.data.recordio.identities import ranges_hold
from qgface_plugin.data.sources import records
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError

FACE = png(draw(0, 0))
LABELS = [0, 0, 0, 1, 1, 2]
RANGES = [[1, 4], [4, 6], [6, 7]]


def write(folder: Path, labels: list[float] = LABELS, ranges: list = RANGES, face: bytes = FACE, **change) -> Path:
    """An InsightFace set; `change`: payloads of the identity records by key."""
    with RecordWriter(folder / "train.rec") as writer:
        writer.write(0, pack(Header(0, [len(labels) + 1, len(labels) + 1 + len(ranges)], 0, 0), b""))
        for key, label in enumerate(labels, start=1):
            writer.write(key, pack(Header(0, label, key, 0), face))
        for key, limits in enumerate(ranges, start=len(labels) + 1):
            writer.write(key, change.get(f"key{key}") or pack(Header(0, limits, key, 0), b""))
    return folder


def holds(folder: Path) -> bool:
    return ranges_hold(RecordReader(folder / "train.rec"), len(LABELS), len(RANGES))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every file counts as large. A list that grows by the number of labels read one after another."""
    scanned: list[int] = []
    scan = labels.scan_labels

    def counted(reader: RecordReader, keys: np.ndarray, skip: bool) -> np.ndarray:
        scanned.append(len(keys))
        return scan(reader, keys, skip)

    monkeypatch.setattr(records, "LARGE", 0)
    monkeypatch.setattr(records, "scan_labels", counted)
    return scanned


def test_the_usual_file_is_believed(tmp_path: Path, large: list[int]) -> None:
    source = FaceRecords(write(tmp_path))
    source.check()
    assert large == [] and source.num_classes == 3
    assert [source.read(index)[1] for index in range(6)] == LABELS == source.labels().tolist()
    source = FaceRecords(tmp_path)
    source.check(every=True)
    assert large == [6, 6]
    assert ranges_hold(RecordReader(FOLDER / "insightface" / "train.rec"), 9, 3)


def test_a_small_file_is_read_whole(tmp_path: Path, large: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGE", 1 << 30)
    FaceRecords(write(tmp_path)).check()
    assert large == [6]


@pytest.mark.parametrize(
    "ranges",
    [
        [[1, 4], [4, 6], [6, 8]], [[1, 4], [4, 6], [6, 6]], [[0, 4], [4, 6], [6, 7]], [[2, 4], [4, 6], [6, 7]],
        [[1, 4], [5, 6], [6, 7]], [[1, 5], [4, 6], [6, 7]], [[4, 6], [1, 4], [6, 7]], [[1, 4], [4, 4], [4, 7]],
        [[1, float("nan")], [float("nan"), 6], [6, 7]],
    ],
)  # fmt: skip
def test_ranges_that_do_not_follow_each_other(ranges: list, tmp_path: Path) -> None:
    assert holds(write(tmp_path)) and not holds(write(tmp_path, ranges=ranges))


@pytest.mark.parametrize(
    "payload",
    [
        pack(Header(0, 4.0, 8, 0), b""), pack(Header(0, [4.0, 6.0, 0.0], 8, 0), b""), b"x" * 32, b"short",
        pack(Header(0, [4.0, 6.0], 8, 0), FACE), pack(Header(0, [4.0, 6.0], 0xCED7230ACED7230A, 0), b""),
    ],
)  # fmt: skip
def test_other_records_where_identities_should_be(payload: bytes, tmp_path: Path) -> None:
    assert not holds(write(tmp_path, key8=payload))


def test_identities_that_are_missing_in_the_index(tmp_path: Path) -> None:
    write(tmp_path)
    lines = (tmp_path / "train.idx").read_bytes().splitlines(keepends=True)
    for left_out in (7, 8, 9):
        (tmp_path / "train.idx").write_bytes(b"".join(lines[:left_out] + lines[left_out + 1 :]))
        assert not holds(tmp_path)
    end = (tmp_path / "train.rec").stat().st_size
    (tmp_path / "train.idx").write_bytes(b"".join(lines[:-1]) + b"9\t%d\n" % end)
    assert not holds(tmp_path)


def test_labels_that_are_not_the_number_of_their_range(tmp_path: Path, large: list[int]) -> None:
    write(tmp_path, labels=[1, 1, 1, 0, 0, 2])
    assert not holds(tmp_path)
    source = FaceRecords(tmp_path)
    source.check()
    assert large == [6] and source.labels().tolist() == [1, 1, 1, 0, 0, 2]


def test_images_that_cannot_be_read_are_left_to_training(tmp_path: Path) -> None:
    assert holds(write(tmp_path, face=b"no image"))


@pytest.mark.parametrize("label", [3.0, 7.0])
def test_a_label_outside_is_refused_on_reading(label: float, tmp_path: Path, large: list[int]) -> None:
    source = FaceRecords(write(tmp_path, labels=[0, label, 0, 1, 1, 2]))
    source.check()
    assert large == [] and source.read(0)[1] == 0
    with pytest.raises(DataError, match=rf"train.rec key 2 at offset .*: label {label:.0f} is outside \[0, 3\)"):
        source.read(1)
    with pytest.raises(DataError, match=rf"key 2 at offset .*: label {label:.0f} is outside \[0, 3\), as are 0 others"):
        source.check(every=True)


def test_only_samples_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    monkeypatch.setattr(identities, "SAMPLES", 2)
    original = identities._label_of
    monkeypatch.setattr(identities, "_label_of", lambda reader, key: looked_at.append(key) or original(reader, key))
    assert holds(write(tmp_path)) and looked_at == [1, 6]


def test_labels_of_many_blocks_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, labels=[index % 3 for index in range(30)])
    expected = FaceRecords(path).labels().tolist()
    monkeypatch.setattr(labels, "BLOCK", 7)
    monkeypatch.setattr("qgface_plugin.data.recordio.reader.LARGE", 0)  # pages are let go between them
    source = FaceRecords(path)
    assert source.labels().tolist() == expected == [index % 3 for index in range(30)]
    assert bytes(source.read(29)[0]) == FACE

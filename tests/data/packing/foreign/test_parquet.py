"""Parquet files as pyarrow writes them in the manner of Hugging Face, packed; damaged ones are refused."""

from __future__ import annotations

import random

import pytest
from foreign_sets import faces, write_parquet

from qgface_plugin.data.packing.foreign.parquet import parquet_faces
from qgface_plugin.data.packing.pack import pack_faces
from qgface_plugin.data.packing.record_set import PackOptions
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError

pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed (extra `foreign`)")


def test_files_are_one_set(tmp_path):
    items, folder = faces([3, 0, 3, 8, 0, 3, 8, 8, 3, 0, 0, 3, 8, 3, 0, 3]), tmp_path / "data"
    folder.mkdir()
    write_parquet(folder / "train-00000-of-00002.parquet", items[:10])
    write_parquet(folder / "train-00001-of-00002.parquet", items[10:])
    report = pack_faces(parquet_faces([folder], tmp_path), tmp_path / "out", PackOptions())
    assert (report.images, report.identities, report.as_they_were) == (16, 3, 16)
    packed = FaceRecords(tmp_path / "out")
    order = sorted(range(16), key=lambda index: items[index][1])
    assert [bytes(packed.read(index)[0]) for index in range(16)] == [items[index][0] for index in order]
    assert (tmp_path / "out" / "identities.tsv").read_text() == "0\t0\n1\t3\n2\t8\n"
    assert (tmp_path / "out" / "train.lst").read_text().startswith("1\ttrain-00000-of-00002/1.jpg\t0\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_columns_are_found_or_named(tmp_path):
    items = faces([1, 2])
    for number, (image, label) in enumerate((("picture", "identity"), ("scan", "class"), ("scan", "who"))):
        path = write_parquet(tmp_path / f"{number}.parquet", items, image, label)
        key = "who" if label == "who" else None
        assert [face.identity[1] for face in parquet_faces([path], tmp_path, None, key).faces] == ["1", "2"]
    with pytest.raises(DataError, match="for the label among scan, who, width: name the column with --label-key"):
        parquet_faces([path], tmp_path)
    for key in ("width", "nothing"):
        with pytest.raises(DataError, match=f"'{key}' for the image among scan: name the column with --image-key"):
            parquet_faces([path], tmp_path, key, "who")


def test_plain_bytes_and_names(tmp_path):
    from pyarrow import parquet

    (one, _), (two, _) = faces([0, 0])
    kinds = (pa.binary(), pa.large_binary())
    for number, kind in enumerate(kinds):
        table = pa.table({"jpg": pa.array([one, two], kind), "other": pa.array([b"", b""]), "cls": ["Ann", "Bob"]})
        parquet.write_table(table, tmp_path / f"{number}.parquet")
        found = parquet_faces([tmp_path / f"{number}.parquet"], tmp_path)
        assert [(face.identity, face.store.read(face.at)) for face in found.faces] == [
            ((0, "Ann"), one),
            ((0, "Bob"), two),
        ]


def test_rows_without_bytes_are_problems_and_without_label_errors(tmp_path):
    (image, _), *_ = faces([0])
    items = [(image, 0), ({"bytes": None, "path": "/home/a.jpg"}, 0), ({"bytes": None, "path": None}, 1)]
    found = parquet_faces([write_parquet(tmp_path / "a.parquet", items)], tmp_path)
    assert len(found.faces) == 1 and [problem[1] for problem in found.problems] == [
        "column image has the path '/home/a.jpg' and no bytes there", "column image has nothing there",
    ]  # fmt: skip
    with pytest.raises(DataError, match="a.parquet row 1, column label: None is no label"):
        parquet_faces([write_parquet(tmp_path / "a.parquet", [(image, 0), (image, None)])], tmp_path)


def test_splits_of_a_folder_are_not_mixed(tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}-00000-of-00001.parquet", faces([0]))
    with pytest.raises(DataError, match="the splits test, train lie in it; name the files of one"):
        parquet_faces([tmp_path], tmp_path)
    assert len(parquet_faces([tmp_path / "train-00000-of-00001.parquet"], tmp_path).faces) == 1


def test_damage_is_read_or_refused_and_nothing_else(tmp_path):
    path, rng, refused = write_parquet(tmp_path / "a.parquet", faces([0, 1, 2] * 5)), random.Random(1), 0
    whole = path.read_bytes()
    for number in range(100):
        data = bytearray(whole)
        if number % 4 == 0:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.choice((1, 5, 100)) if data else 0):
            data[rng.choice((rng.randrange(len(data)), rng.randrange(len(data)) // 20 - 1))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            for face in parquet_faces([path], tmp_path).faces:
                face.store.read(face.at)
        except DataError as error:
            refused += 1
            assert str(path) in str(error)
    assert 25 <= refused <= 100

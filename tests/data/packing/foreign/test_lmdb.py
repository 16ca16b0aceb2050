"""LMDB files as the lmdb package writes them, read by their pages, and packed; damaged ones are refused."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from foreign_sets import faces, write_lmdb

from qgface_plugin.data.packing.foreign.lmdb_faces import lmdb_faces
from qgface_plugin.data.packing.foreign.lmdb_pages import LmdbFile
from qgface_plugin.data.packing.pack import pack_faces
from qgface_plugin.data.packing.record_set import PackOptions
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError

lmdb = pytest.importorskip("lmdb", reason="the package lmdb is not installed (extra `test`)")
msgpack = pytest.importorskip("msgpack", reason="the package msgpack is not installed (extra `foreign`)")


@pytest.mark.parametrize("count", [0, 1, 3, 400, 20_000])
def test_items_are_those_of_the_library(tmp_path, count):
    rng, path = random.Random(count), str(tmp_path / "a.lmdb")
    with lmdb.open(path, subdir=False, map_size=1 << 28) as database, database.begin(write=True) as write:
        for _ in range(count):
            key = bytes(rng.choices(range(256), k=rng.randint(1, 60)))
            write.put(key, rng.randbytes(rng.choice((0, 1, 5, 900, 2100, 5000)) if count < 5000 else 30))
        for key in [key for key, _ in write.cursor()][::3]:  # pages that were used before
            write.delete(key)
    with lmdb.open(path, subdir=False) as database, database.begin() as read:
        expected = list(read.cursor())
    file = LmdbFile(path)
    assert [(item.key, file.store.read((item.offset, item.size))) for item in file.items()] == expected
    assert file.entries == len(expected)


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_packed_is_what_was_written(tmp_path, folder):
    items = faces([7, 2, 7, 11, 2, 7])
    path = tmp_path / "hsface.lmdb"
    if folder:
        path.mkdir()
    write_lmdb(path, items)
    report = pack_faces(lmdb_faces([path]), tmp_path / "out", PackOptions())
    assert (report.images, report.identities, report.as_they_were) == (6, 3, 6)
    packed = FaceRecords(tmp_path / "out")
    order = [1, 4, 0, 2, 5, 3]  # identity after identity, in the order of __keys__
    assert packed.labels().tolist() == [0, 0, 1, 1, 1, 2]
    assert [bytes(packed.read(index)[0]) for index in range(6)] == [items[index][0] for index in order]
    assert (tmp_path / "out" / "identities.tsv").read_text() == "0\t2\n1\t7\n2\t11\n"
    stem = "data" if folder else "hsface"
    lines = (tmp_path / "out" / "train.lst").read_text().splitlines()
    assert lines[0] == f"1\t{stem}/1\t0" and len(lines) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": None},
        {"len": None},
        {"classnum": None},
        {"classnum": 2},
        {"classnum": 3},
        {"keys": [b"2", b"0"], "len": 2},
    ],
)
def test_what_a_file_need_not_say(tmp_path, changes):
    found = lmdb_faces([write_lmdb(tmp_path / "a", faces([0, 1, 2]), **changes)])
    expected = ["2", "0"] if "len" in changes and changes["len"] else ["0", "1", "2"]
    assert [face.name for face in found.faces] == [f"a/{key}" for key in expected]
    assert [face.identity for face in found.faces] == [(0, key) for key in expected]


def test_values_of_other_writers(tmp_path):
    """Features between image and label; bytes as text, as msgpack before 1.0 had them."""
    (image, _), *_ = faces([0])
    values = [msgpack.dumps((image, b"features", 5)), msgpack.dumps((image, 6, b"more")),
              msgpack.dumps([image, 7], use_bin_type=False)]  # fmt: skip
    found = lmdb_faces([write_lmdb(tmp_path / "a", values, classnum=8)])
    assert [face.identity[1] for face in found.faces] == ["5", "6", "7"]
    assert all(face.store.read(face.at) == image for face in found.faces)


def test_images_of_many_lengths_are_found(tmp_path):
    items = [(b"\xff" * size, 0) for size in (0, 1, 31, 32, 255, 256, 65535, 65536)]
    for number, text in enumerate((True, False)):
        values = [msgpack.dumps(item, use_bin_type=text) for item in items]
        found = lmdb_faces([write_lmdb(tmp_path / str(number), values, classnum=1)])
        assert [len(face.store.read(face.at)) for face in found.faces] == [len(image) for image, _ in items]


def test_a_label_in_two_files_is_one_person_or_two(tmp_path):
    paths = [write_lmdb(tmp_path / name, faces([0, 1])) for name in "ab"]
    with pytest.raises(DataError, match="2 identities have a name that is in several sources, the first 0 in"):
        lmdb_faces(paths)
    for same_names, identities in (("merge", 2), ("separate", 4)):
        assert len({face.identity for face in lmdb_faces(paths, same_names).faces}) == identities


BAD = {
    "no label": (msgpack.dumps((b"image",)), "not a msgpack of"),
    "a label that is none": (msgpack.dumps((b"image", -3)), "label -3 is not"),
    "a label without end": (msgpack.dumps((b"image", 1 << 24)), "is not a whole number in"),
    "a name": (msgpack.dumps((b"image", "Ann")), "label None is not"),
    "no msgpack": (b"\xc1\xc1\xc1", "no msgpack"),
    "a number": (msgpack.dumps(3), "not a msgpack of"),
    "nested without end": (b"\x91" * 100_000, "no msgpack"),
    "many parts": (msgpack.dumps([b"image", 3, *range(20)]), "a msgpack of 22 parts"),
    "pyarrow": (bytes(12) + b"rest", "written by pyarrow.serialize"),
}


@pytest.mark.parametrize("name", BAD)
def test_values_that_are_no_faces(tmp_path, name):
    value, message = BAD[name]
    path = write_lmdb(tmp_path / "a", [*faces([0]), value], classnum=1)
    with pytest.raises(DataError, match=message) as caught:
        lmdb_faces([path])
    assert f"{path} key b'1'" in str(caught.value)


@pytest.mark.parametrize(("changes", "message"), [
    ({"keys": [b"0", b"9"], "len": 2}, "__keys__ lists 1 keys that are not there, the first .b'9'"),
    ({"keys": [b"0", b"0"], "len": 2}, "and 1 twice"), ({"keys": 3}, "__keys__ is no list"),
    ({"len": 7}, "__len__ is 7, and __keys__ lists 2 keys"), ({"keys": []}, "no image in it"),
])  # fmt: skip
def test_a_file_that_contradicts_itself(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        lmdb_faces([write_lmdb(tmp_path / "a", faces([0, 1]), **changes)])


def test_files_that_are_none(tmp_path):
    (tmp_path / "a").write_bytes(b"not an lmdb" * 900)
    for path in (tmp_path / "a", tmp_path / "missing"):
        with pytest.raises(DataError, match=str(path)):
            lmdb_faces([path])


def test_a_file_cut_anywhere_and_one_that_shrinks(tmp_path):
    """The library ends the process by SIGBUS; see lmdb_pages."""
    whole = write_lmdb(tmp_path / "a", faces(range(20))).read_bytes()
    for size in (0, 10, 200, 5000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(DataError, match="not an LMDB file|it is cut short"):
            lmdb_faces([tmp_path / "cut"])
    found = lmdb_faces([tmp_path / "a"])
    os.truncate(tmp_path / "a", 9000)
    with pytest.raises(DataError, match="cut short"):
        pack_faces(found, tmp_path / "out", PackOptions())
    assert not (tmp_path / "out" / "train.rec").exists()


def test_damage_is_read_or_refused_and_nothing_else(tmp_path):
    items = faces([index // 3 for index in range(60)])
    whole, rng, refused = write_lmdb(tmp_path / "a", items).read_bytes(), random.Random(3), 0
    for number in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 4, 40))):
            page = rng.randrange(len(data) // 4096)
            data[4096 * page + rng.choice((rng.randrange(64), rng.randrange(4096)))] = rng.randrange(256)
        path = tmp_path / f"damaged{number % 2}"
        path.write_bytes(data)
        try:
            found = lmdb_faces([path])
            for face in found.faces:
                face.store.read(face.at)
        except DataError as error:
            refused += 1
            assert str(path) in str(error)
    assert 60 < refused < 300


def test_a_file_whose_pages_lead_in_a_circle_ends(tmp_path):
    path = write_lmdb(tmp_path / "a", faces(range(200)))
    data, root = bytearray(path.read_bytes()), LmdbFile(path)._root
    begin = 4096 * root + int.from_bytes(data[4096 * root + 16 : 4096 * root + 18], "little")
    data[begin : begin + 4] = root.to_bytes(4, "little")  # its first branch leads to itself
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        list(LmdbFile(path).items())


def test_the_path_of_a_face_says_where_it_is(tmp_path):
    path: Path = write_lmdb(tmp_path / "a", [(b"no image", 0)])
    with pytest.raises(DataError, match="1 of 1 inputs cannot be packed"):
        pack_faces(lmdb_faces([path]), tmp_path / "out", PackOptions())
    assert (tmp_path / "out" / "left_out.tsv").read_text().startswith(f"{path} key 0\tneither JPEG nor PNG")

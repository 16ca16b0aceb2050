"""Tars as WebDataset writes them, packed; damaged ones are refused."""

from __future__ import annotations

import os
import random
import tarfile

import pytest
from foreign_sets import faces, samples, write_tar

from qgface_plugin.data.packing.foreign.patterns import expand, named_files
from qgface_plugin.data.packing.foreign.webdataset import webdataset_faces
from qgface_plugin.data.packing.pack import pack_faces
from qgface_plugin.data.packing.record_set import PackOptions
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError


@pytest.mark.parametrize("kind", ["cls", "json", "txt"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_shards_are_one_set(tmp_path, kind, mode):
    items, ending = faces([5, 0, 12, 5, 0]), "tar" if mode == "w" else "tar.gz"
    write_tar(tmp_path / f"s-00.{ending}", samples(items[:3], kind), mode)
    write_tar(tmp_path / f"s-01.{ending}", samples(items[3:], kind), mode)
    found = webdataset_faces([str(tmp_path / f"s-{{00..01}}.{ending}")], tmp_path)
    report = pack_faces(found, tmp_path / "out", PackOptions())
    assert (report.images, report.identities, report.as_they_were) == (5, 3, 5)
    packed = FaceRecords(tmp_path / "out")
    assert packed.labels().tolist() == [0, 0, 1, 1, 2]
    assert [bytes(packed.read(index)[0]) for index in range(5)] == [items[index][0] for index in (1, 4, 0, 3, 2)]
    assert (tmp_path / "out" / "identities.tsv").read_text() == "0\t0\n1\t5\n2\t12\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", f"s-00.{ending}", f"s-01.{ending}"]


def test_a_list_and_a_folder_name_the_same_tars(tmp_path):
    for number in range(3):
        write_tar(tmp_path / f"t{number}.tar", samples(faces([number])))
    (tmp_path / "all.txt").write_text("t{0..1}.tar\n\nt2.tar\n")
    (tmp_path / "t9.idx").write_text("")
    for source in (tmp_path / "all.txt", tmp_path):
        assert [face.identity[1] for face in webdataset_faces([source], tmp_path).faces] == ["0", "1", "2"]


def test_members_in_folders_names_as_labels_and_what_is_passed_over(tmp_path):
    (one, _), (two, _) = faces([0, 1])
    members = [("ann/1.jpg", one), ("ann/1.cls", b"ann\n"), ("ann/1.meta.json", b"{}"), ("notes.bin", b"?"),
               ("._x.jpg", b"?"), ("bob/1.cls", b" bob"), ("bob/1.seg.png", b"?"), ("bob/1.png", two)]  # fmt: skip
    found = webdataset_faces([write_tar(tmp_path / "a.tar", members)], tmp_path)
    assert [(face.name, face.identity) for face in found.faces] == [("a/ann/1", (0, "ann")), ("a/bob/1", (0, "bob"))]
    assert [face.store.read(face.at) for face in found.faces] == [one, two] and found.passed_over == 1


def test_neighbours_with_one_name_are_two_samples(tmp_path):
    """Names of images in folders of their own, without the folders."""
    (one, _), (two, _) = faces([0, 1])
    members = [("1.jpg", one), ("1.cls", b"0"), ("1.jpg", two), ("1.cls", b"1")]
    found = webdataset_faces([write_tar(tmp_path / "a.tar", members)], tmp_path)
    assert [face.identity[1] for face in found.faces] == ["0", "1"]


@pytest.mark.parametrize(("text", "key", "label"), [
    ('{"cls": 3, "id": 4}', None, "3"), ('{"cls": 3, "id": 4}', "id", "4"), ("17", None, "17"),
    ('{"person": "Ann"}', None, "Ann"), ('{"label": 2.0}', None, "2"),
])  # fmt: skip
def test_labels_in_json(tmp_path, text, key, label):
    path = write_tar(tmp_path / "a.tar", [("0.jpg", b"image"), ("0.json", text.encode())])
    (face,) = webdataset_faces([path], tmp_path, key).faces
    assert face.identity == (0, label)


@pytest.mark.parametrize(("text", "message"), [
    (b"{", "cannot be read"), (b"[" * 99_999, "cannot be read"), (b'{"a": 1}', "none of label, .* name the one with"),
    (b'{"label": null}', "None is no label"), (b'{"label": [1]}', "is no label"), (b"\xff", "cannot be read"),
    (b'{"label": -1}', "-1 is no label"), (b'{"label": "a\\tb"}', "is no label"), (b"true", "True is no label"),
    (b'{"label": 1.5}', "1.5 is no label"), (b'{"label": 1e400}', "inf is no label"), (b'""', "'' is no label"),
])  # fmt: skip
def test_labels_that_are_none(tmp_path, text, message):
    path = write_tar(tmp_path / "a.tar", [("0.jpg", b"image"), ("0.json", text)])
    with pytest.raises(DataError, match=message) as caught:
        webdataset_faces([path], tmp_path)
    assert f"{path} 0.json" in str(caught.value)


@pytest.mark.parametrize(("members", "message"), [
    ([("0.jpg", b"image")], "0: no label beside the image"),
    ([("0.cls", b"0")], "no sample with an image"), ([], "not a tar that can be read|no sample with an image"),
    ([("0.jpg", b"image"), ("0.cls", b"0" * 2_000_000)], "2000000 bytes are no label"),
])  # fmt: skip
def test_samples_that_are_none(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        webdataset_faces([write_tar(tmp_path / "a.tar", members)], tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_cut_anywhere(tmp_path, mode):
    whole = write_tar(tmp_path / "whole", samples(faces([0, 1])), mode).read_bytes()
    path, end = tmp_path / "cut.tar", len(whole) if mode == "w:gz" else 27000
    for size in [*range(0, min(end, len(whole)) - 9, 997), 512, 1024]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="cut.tar"):
            webdataset_faces([path], tmp_path)


def test_a_damaged_head_is_not_the_end(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(faces([0, 1, 2])))
    with tarfile.open(path) as archive:
        at = archive.getmembers()[4].offset
    data = bytearray(path.read_bytes())
    data[at + 3] ^= 1  # of the name: the checksum is wrong
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"after {at} bytes neither a member nor the end of a tar follows"):
        webdataset_faces([path], tmp_path)


def test_damage_is_read_or_refused_and_nothing_else(tmp_path):
    whole, rng, refused = write_tar(tmp_path / "a", samples(faces([0, 1, 2, 3]))).read_bytes(), random.Random(1), 0
    with tarfile.open(tmp_path / "a") as archive:
        heads = [member.offset for member in archive]
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 3, 30))):
            data[rng.choice((rng.choice(heads), rng.randrange(len(data) - 512))) + rng.randrange(512)] = rng.randrange(
                256
            )
        (tmp_path / "b").write_bytes(data)
        try:
            for face in webdataset_faces([tmp_path / "b"], tmp_path).faces:
                face.store.read(face.at)
        except DataError:
            refused += 1
    assert 100 < refused < 300


def test_a_tar_that_shrinks_while_it_is_packed(tmp_path):
    found = webdataset_faces([write_tar(tmp_path / "a.tar", samples(faces([0, 1])))], tmp_path)
    os.truncate(tmp_path / "a.tar", 3000)
    with pytest.raises(DataError, match="it is cut short"):
        pack_faces(found, tmp_path / "out", PackOptions())


def test_patterns():
    assert expand("a.tar") == ["a.tar"]
    assert expand("{000..002}") == ["000", "001", "002"] and expand("{9..11}") == ["9", "10", "11"]
    assert expand("{a,b}-{1..2}.tar") == ["a-1.tar", "a-2.tar", "b-1.tar", "b-2.tar"]
    for wrong in ("{3..1}", "{0..9999999}", "{0..9999}{0..9999}"):
        with pytest.raises(DataError, match="runs backwards|names more than"):
            expand(wrong)


def test_files_that_are_not_there_or_twice(tmp_path):
    for name in ("0", "1"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").touch()
    pattern = str(tmp_path / "{0..1}")
    assert named_files([pattern]) == [tmp_path / "0", tmp_path / "1"]
    for sources, message in (
        ([str(tmp_path / "{0..2}")], "2: no such file"),
        ([pattern, tmp_path / "1"], "twice"),
        ([tmp_path / "empty"], "no .tar file in"),
        ([tmp_path / "none.txt"], "empty"),
    ):
        with pytest.raises(DataError, match=message):
            named_files(sources, ".tar")

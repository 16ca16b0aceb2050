"""Parts of a record set: the same bytes, names and order, chosen by seed or by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photographs import jpeg, save

from qgface_plugin.commands.pack import main
from qgface_plugin.data.identity_names import read_identity_names
from qgface_plugin.data.packing.faces import Face, FaceList, list_faces
from qgface_plugin.data.packing.pack import pack_faces
from qgface_plugin.data.packing.record_set import PackOptions
from qgface_plugin.data.packing.subset import Subset, choose
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError, DataError

PERSONS = [f"p{number:02d}" for number in range(12)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 identities with 3 to 8 images of 48 pixels, one image of 64, packed."""
    folder, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for number, person in enumerate(PERSONS):
        for image in range(3 + number % 6):
            side = 64 if (number, image) == (0, 0) else 48
            save(
                folder / "faces" / person / f"{image}.jpg", jpeg(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            )
    pack_faces(list_faces([folder / "faces"]), folder / "packed", PackOptions(size=48, as_they_are=True))
    return folder / "packed"


def contents(folder: Path) -> dict[bytes, str]:
    """Image -> name of its identity."""
    records, names = FaceRecords(folder), read_identity_names(folder / "identities.tsv")
    return {bytes(image): names[label] for image, label in map(records.read, range(len(records)))}


def cut(packed: Path, out: Path, *what: str) -> dict[bytes, str]:
    assert main([str(packed), "-o", str(out), "--subset", *what]) == 0
    return contents(out)


def test_everything_is_the_set_itself_byte_for_byte(packed, tmp_path):
    cut(packed, tmp_path / "out", "images-per-identity=99")
    for name in ("train.rec", "train.idx", "train.lst", "property", "identities.tsv"):
        assert (tmp_path / "out" / name).read_bytes() == (packed / name).read_bytes()


def test_counts_are_kept_and_what_is_kept_is_as_it_was(packed, tmp_path):
    whole, part = contents(packed), cut(packed, tmp_path / "out", "identities=5,images-per-identity=4", "seed=3")
    assert part.items() <= whole.items() and len(set(part.values())) == 5
    for person in set(part.values()):
        assert list(part.values()).count(person) == min(4, list(whole.values()).count(person))
    assert (tmp_path / "out" / "property").read_text() in ("5,48,48", "5,64,64")
    lines = [line.split("\t") for line in (tmp_path / "out" / "train.lst").read_text().splitlines()]
    names = read_identity_names(tmp_path / "out" / "identities.tsv")
    assert len(lines) == len(part) and all(path.split("/")[0] == names[int(label)] for _, path, label in lines)


def test_the_seed_decides_and_a_smaller_part_lies_in_a_larger_one(packed, tmp_path):
    one = cut(packed, tmp_path / "1", "identities=4,images-per-identity=2,seed=1")
    assert cut(packed, tmp_path / "2", "identities=4,images-per-identity=2,seed=1") == one
    assert cut(packed, tmp_path / "3", "identities=4,images-per-identity=2,seed=2") != one
    assert cut(packed, tmp_path / "4", "identities=8,images-per-identity=3,seed=1").items() >= one.items()


def test_identities_of_a_list(packed, tmp_path):
    (tmp_path / "list.txt").write_text("p07\r\n\np02\n")
    part = cut(packed, tmp_path / "out", f"list={tmp_path / 'list.txt'}")
    assert set(part.values()) == {"p02", "p07"} and len(part) == 5 + 4
    (tmp_path / "list.txt").write_text("p07\nnobody\n")
    with pytest.raises(DataError, match="1 of 2 identities are not in the set, the first 'nobody'"):
        choose(FaceList([Face("a", "a", (0, "p07"))]), Subset(names=tmp_path / "list.txt"))


def test_a_set_without_names_keeps_its_labels_in_the_table(packed, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("train.rec", "train.idx"):
        (bare / name).write_bytes((packed / name).read_bytes())
    part = cut(bare, tmp_path / "out", "identities=3")
    assert {int(name) for name in part.values()} < set(range(12)) and len(set(part.values())) == 3
    assert (tmp_path / "out" / "train.lst").read_text().split("\t")[1].startswith("bare/")


def test_two_persons_of_one_name_stay_two(packed, tmp_path):
    twins = tmp_path / "twins"
    twins.mkdir()
    for name in ("train.rec", "train.idx"):
        (twins / name).write_bytes((packed / name).read_bytes())
    (twins / "identities.tsv").write_text("".join(f"{label}\tx\n" for label in range(12)))
    cut(twins, tmp_path / "out", "images-per-identity=1")
    assert FaceRecords(tmp_path / "out").labels().tolist() == list(range(12))


@pytest.mark.parametrize(("texts", "message"), [
    (["persons=3"], "takes identities=N, images-per-identity=N, seed=N and list=FILE"), (["identities=0"], "a whole"),
    (["identities=x"], "a whole number"), (["list="], "a file"), (["seed=1"], "says nothing to take"),
    (["identities=1", "identities=2"], "twice"), ([","], "says nothing"),
])  # fmt: skip
def test_what_is_no_subset(texts, message):
    with pytest.raises(ConfigError, match=message):
        Subset.parse(texts)


def test_more_than_there_is_and_other_sources(packed, tmp_path, capsys):
    assert main([str(packed), "-o", str(tmp_path / "out"), "--subset", "identities=13"]) == 2
    assert "identities=13, but there are 12" in capsys.readouterr().err
    assert main([str(packed), str(packed), "-o", str(tmp_path / "out"), "--subset", "identities=1"]) == 2
    assert main([str(packed.parent / "faces"), "-o", str(tmp_path / "out"), "--subset", "identities=1"]) == 2
    assert "no .rec file in this folder" in capsys.readouterr().err
    assert main([str(packed), "--from-lmdb", "a", "-o", str(tmp_path / "out")]) == 2
    assert main(["-o", str(tmp_path / "out")]) == 2
    assert "name sources, or one of --from-lmdb" in capsys.readouterr().err
    assert not (tmp_path / "out" / "train.rec").exists()

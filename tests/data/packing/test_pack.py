"""Packing, against the files that MXNet wrote and against the images that went in."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import FOLDER, IDENTITIES, draw, im2rec_records, png
from photographs import jpeg, save

from qgface_plugin.data.images import decode, encode_jpeg
from qgface_plugin.data.packing import faces as faces_module
from qgface_plugin.data.packing import pack
from qgface_plugin.data.packing.faces import list_faces
from qgface_plugin.data.packing.pack import PackReport, pack_faces
from qgface_plugin.data.packing.record_set import PackOptions
from qgface_plugin.data.recordio import RecordReader
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError, DataError


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """The golden set's images as a folder; names sort as its labels and numbers do."""
    for label, count in enumerate(IDENTITIES):
        for number in range(count):
            save(tmp_path / "faces" / f"person{label}" / f"{number}.png", png(draw(label, number)))
    return tmp_path / "faces"


def run(source: Path, out: Path, **options: object) -> PackReport:
    return pack_faces(list_faces([source]), out, PackOptions(**{"size": 24, **options}))


def test_the_bytes_that_mxnet_wrote(faces: Path, tmp_path: Path) -> None:
    report = run(faces, tmp_path / "out")
    for name in ("train.rec", "train.idx"):
        assert (tmp_path / "out" / name).read_bytes() == (FOLDER / "insightface" / name).read_bytes()
    assert (report.images, report.identities, report.as_they_were, report.left_out) == (9, 3, 9, 0)
    assert (tmp_path / "out" / "property").read_bytes() == b"3,24,24"
    lines = (tmp_path / "out" / "train.lst").read_text().splitlines()
    assert lines[:4] == [
        f"1\tperson{label}/{number}.png\t{label}" for label, number in [(0, 0), (0, 1), (0, 2), (1, 0)]
    ]
    assert (tmp_path / "out" / "identities.tsv").read_text() == "0\tperson0\n1\tperson1\n2\tperson2\n"


def test_the_bytes_that_mxnet_wrote_for_im2rec(tmp_path: Path) -> None:
    lines = []
    for key, label, _, image in im2rec_records():
        save(tmp_path / f"{key}.png", image)
        labels = label if isinstance(label, list) else [label]
        lines.append("\t".join([str(key), *(f"{value:f}" for value in labels), f"{key}.png"]))
    save(tmp_path / "in.lst", "\n".join(lines).encode())
    run(tmp_path / "in.lst", tmp_path / "out", style="im2rec")
    for name in ("rec", "idx"):
        assert (tmp_path / "out" / f"train.{name}").read_bytes() == (FOLDER / f"im2rec.{name}").read_bytes()
    assert (tmp_path / "out" / "train.lst").read_text().splitlines() == lines


def test_real_faces_as_mxnet_packed_them(lfw: Path, tmp_path: Path) -> None:
    golden = FaceRecords(lfw / "train")
    lines = (lfw / "train" / "train.lst").read_text().splitlines()[:300]
    for index, line in enumerate(lines):
        save(tmp_path / "faces" / line.split("\t")[1], bytes(golden.read(index)[0]))
    pack_faces(list_faces([tmp_path / "faces"]), tmp_path / "out", PackOptions())
    assert (tmp_path / "out" / "train.lst").read_text().splitlines() == lines
    ours, theirs = RecordReader(tmp_path / "out" / "train.rec"), RecordReader(lfw / "train" / "train.rec")
    for key in range(1, 301):
        assert ours.offset(key) == theirs.offset(key) and bytes(ours.read(key)) == bytes(theirs.read(key))


@pytest.mark.parametrize("style", ["insightface", "im2rec"])
def test_shuffling_moves_records_but_no_key(style: str, faces: Path, tmp_path: Path) -> None:
    for name, shuffle in (("plain", None), ("one", 1), ("again", 1), ("two", 2)):
        run(faces, tmp_path / name, style=style, shuffle=shuffle)
    plain, one, again, two = (RecordReader(tmp_path / name / "train.rec") for name in ("plain", "one", "again", "two"))
    assert (np.diff(plain.offsets) > 0).all()
    assert np.array_equal(one.offsets, again.offsets) and not np.array_equal(one.offsets, two.offsets)
    assert one.keys.tolist() == plain.keys.tolist()
    assert all(bytes(one.read(key)) == bytes(plain.read(key)) for key in plain.keys.tolist())
    if style == "insightface":
        assert one.offset(0) == 0
    FaceRecords(tmp_path / "one").check()


def test_other_sides_are_resized_and_the_rest_untouched(tmp_path: Path) -> None:
    kept, large = jpeg(1), jpeg(2, side=60)
    save(tmp_path / "faces" / "a" / "kept.jpg", kept)
    save(tmp_path / "faces" / "a" / "large.jpg", large)
    report = run(tmp_path / "faces", tmp_path / "out", quality=80)
    assert (report.as_they_were, report.resized) == (1, 1)
    records = FaceRecords(tmp_path / "out")
    assert bytes(records.read(0)[0]) == kept
    assert bytes(records.read(1)[0]) == encode_jpeg(decode(large, "large", 24), 80)


def test_labels_of_lists_become_dense(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"{number}.jpg", jpeg(number))
    save(tmp_path / "in.lst", b"1\t0.jpg\t40\n1\t1.jpg\t7\n\n1\t2.jpg\t40\n1\t3.jpg\t100\textra\r\n")
    pack_faces(list_faces([tmp_path / "in.lst"], tmp_path / "images"), tmp_path / "out", PackOptions(size=24))
    assert (tmp_path / "out" / "identities.tsv").read_text() == "0\t7\n1\t40\n2\t100\n"
    assert (tmp_path / "out" / "train.lst").read_text() == "1\t1.jpg\t0\n1\t0.jpg\t1\n1\t2.jpg\t1\n1\t3.jpg\t2\n"


def spoil(faces: Path) -> dict[str, str]:
    """Files that cannot be packed, and a part of the reason given for each."""
    save(faces / "person0" / "broken.jpg", jpeg(1)[:-40])
    save(faces / "person1" / "text.png", b"no image at all")
    wide = np.zeros((24, 30, 3), np.uint8)
    save(faces / "person1" / "wide.jpg", encode_jpeg(wide, 90))
    (faces / "person1" / "folder.jpg").mkdir()
    (faces / "person3").mkdir()
    return {
        "broken.jpg": "undecodable JPEG",
        "text.png": "neither JPEG nor PNG",
        "wide.jpg": "the image is 30 x 24, not square: faces must be detected and aligned first",
        "folder.jpg": "cannot be read (Is a directory)",
        "person3": "an identity without an image",
    }


def test_bad_images_are_refused_with_their_count(faces: Path, tmp_path: Path) -> None:
    reasons = spoil(faces)
    with pytest.raises(DataError, match="5 of 14 inputs cannot be packed.*left_out.tsv.*--on-corrupt skip") as refused:
        run(faces, tmp_path / "out")
    assert "broken.jpg: undecodable" in str(refused.value) or "person3: an identity" in str(refused.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["left_out.tsv"]
    listed = dict(line.split("\t") for line in (tmp_path / "out" / "left_out.tsv").read_text().splitlines())
    assert {Path(path).name for path in listed} == set(reasons)
    for path, reason in listed.items():
        assert reasons[Path(path).name] in reason


def test_bad_images_can_be_left_out(faces: Path, tmp_path: Path) -> None:
    spoil(faces)
    report = run(faces, tmp_path / "out", on_corrupt="skip")
    assert (report.images, report.left_out) == (9, 5)
    assert (tmp_path / "out" / "train.rec").read_bytes() == (FOLDER / "insightface" / "train.rec").read_bytes()


def test_unaligned_images_of_a_list(faces: Path, tmp_path: Path) -> None:
    save(tmp_path / "in.lst", b"1\tperson0/0.png\t0\n0\tperson0/1.png\t0\n")
    found = list_faces([tmp_path / "in.lst"], faces)
    with pytest.raises(DataError, match="1 of 2 inputs(.|\n)*1.png: not aligned"):
        pack_faces(found, tmp_path / "out", PackOptions(size=24))


def test_identities_with_few_images(faces: Path, tmp_path: Path) -> None:
    save(faces / "single" / "0.png", png(draw(5, 5)))
    assert run(faces, tmp_path / "all").single_image_identities == 1
    report = run(faces, tmp_path / "out", min_images=3)
    assert (report.images, report.identities, report.left_out, report.single_image_identities) == (7, 2, 3, 0)
    assert (tmp_path / "out" / "identities.tsv").read_text() == "0\tperson0\n1\tperson2\n"
    with pytest.raises(DataError, match="all 10 inputs are left out, see .*left_out.tsv"):
        run(faces, tmp_path / "none", min_images=9)


def test_an_image_that_changes_while_packing(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = faces_module.check_face

    def check_and_spoil(path: str, size: int) -> bool:
        result = check(path, size)
        Path(path).write_bytes(b"gone")
        return result

    monkeypatch.setattr(faces_module, "check_face", check_and_spoil)
    with pytest.raises(DataError, match="0.png: neither JPEG nor PNG"):
        run(faces, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    for number in range(100):
        save(tmp_path / "faces" / "a" / f"{number}.png", png(noise))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run(tmp_path / "faces", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    jose = os.fsdecode(b"Jos\xe9")
    for name in ("Ann/1.png", f"{jose}/1.png", f"{jose}/{jose}.png"):
        save(tmp_path / "faces" / name, jpeg(len(name), 112))
    save(tmp_path / "faces" / "Ann" / f"{jose}.png", b"no image")
    report = run(tmp_path / "faces", tmp_path / "out", on_corrupt="skip")
    out = tmp_path / "out"
    assert (report.images, report.left_out) == (3, 1)
    assert (out / "train.lst").read_bytes() == b"1\tAnn/1.png\t0\n1\tJos\xe9/1.png\t1\n1\tJos\xe9/Jos\xe9.png\t1\n"
    assert (out / "identities.tsv").read_bytes() == b"0\tAnn\n1\tJos\xe9\n"
    assert "Ann/Jos\\udce9.png\tneither JPEG nor PNG" in (out / "left_out.tsv").read_text()


@pytest.mark.parametrize("name", ["train.lst", "identities.tsv", "property", "train.idx"])
def test_records_appear_with_all_of_their_files_or_not_at_all(
    name: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == name:
            raise OSError(28, "No space left on device", str(target))
        assert Path(target).name != "train.rec" or {path.name for path in Path(target).parent.iterdir()} >= {
            "train.idx", "train.lst", "identities.tsv", "property"
        }  # fmt: skip
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        run(faces, tmp_path / "out")
    assert not (tmp_path / "out" / "train.rec").exists()
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith(".part")]
    monkeypatch.undo()
    run(faces, tmp_path / "out")
    assert len(RecordReader(tmp_path / "out" / "train.rec")) == 13


def test_nothing_is_overwritten_unasked(faces: Path, tmp_path: Path) -> None:
    run(faces, tmp_path / "out")
    with pytest.raises(ConfigError, match="train.rec is there already.*--overwrite"):
        run(faces, tmp_path / "out")
    run(faces, tmp_path / "out", overwrite=True, style="im2rec")
    assert len(RecordReader(tmp_path / "out" / "train.rec")) == 9


def test_lists_of_other_data_are_left_alone(faces: Path, tmp_path: Path) -> None:
    for name in ("train.lst", "identities.tsv", "property"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("of somebody")
        with pytest.raises(ConfigError, match=f"{name} is there already, of other data: .*--overwrite"):
            run(faces, out)
        assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "of somebody"
        run(faces, out, overwrite=True)
        assert (out / name).read_text() != "of somebody"


def test_a_list_that_is_packed_is_never_written_over(faces: Path) -> None:
    listing = faces / "train.lst"
    listing.write_text("1\tperson0/1.png\t0\n")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="train.lst is an input of this tool"):
            run(listing, faces, overwrite=overwrite)
    assert listing.read_text() == "1\tperson0/1.png\t0\n"


def test_more_than_the_header_can_count(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_INSIGHTFACE", 11)
    with pytest.raises(DataError, match="9 images of 3 identities: .* 11 "):
        run(faces, tmp_path / "out")
    assert run(faces, tmp_path / "out", style="im2rec").images == 9
    monkeypatch.setattr(pack, "MAX_INSIGHTFACE", 12)
    assert run(faces, tmp_path / "out", overwrite=True).images == 9


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"style": "mxnet"}, "style is 'mxnet'"),
        ({"on_corrupt": "x"}, "on_corrupt is 'x'"),
        ({"quality": 0}, "quality is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"min_images": 0}, "min_images is 0"),
        ({"size": 0}, "size is 0"),
        ({"shuffle": -1}, "shuffle is -1"),
    ],
)
def test_impossible_options(option: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PackOptions(**option)


def test_surplus_bytes_are_packed_and_counted(tmp_path: Path) -> None:
    whole = jpeg(1)
    for name, content in (("a/1", whole), ("a/2", whole[:-2]), ("b/1", jpeg(2) + bytes(9)), ("c/1", jpeg(3)[:-2])):
        save(tmp_path / "faces" / f"{name}.jpg", content)
    report = run(tmp_path / "faces", tmp_path / "out")
    assert (report.images, report.as_they_were, report.surplus) == (4, 4, 3)
    assert bytes(FaceRecords(tmp_path / "out").read(1)[0]) == whole[:-2]
    assert run(tmp_path / "faces", tmp_path / "out2", min_images=2).surplus == 1
    save(tmp_path / "faces" / "a" / "3.jpg", whole[: len(whole) // 2])
    with pytest.raises(DataError, match="1 of 5 inputs cannot be packed"):
        run(tmp_path / "faces", tmp_path / "out3")

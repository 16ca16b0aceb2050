"""FaceRecords: layouts, shards, counts and labels, and damaged files that must never give a wrong label."""

from __future__ import annotations

import logging
import pickle
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import FOLDER, MAGIC, draw, im2rec_records, insightface_records, png

from qgface_plugin.data.images import decode
from qgface_plugin.data.recordio import Header, RecordReader, RecordWriter, pack
from qgface_plugin.data.recordio.identities import image_keys
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError, DataError

FACE = png(draw(0, 0))


def write(path: Path, records: list[tuple[int, object, int, bytes]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with RecordWriter(path) as writer:
        for key, label, id_, image in records:
            writer.write(key, pack(Header(0, label, id_, 0), image))
    return path


def faces(*labels: object) -> list[tuple[int, object, int, bytes]]:
    return [(key, label, key, FACE) for key, label in enumerate(labels)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "insightface", tmp_path / "set"))


def test_insightface_layout_by_mxnet() -> None:
    source = FaceRecords(FOLDER / "insightface")
    assert (len(source), source.num_classes) == (9, 3)
    assert source.labels().tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    source.check()
    for index, (key, label, _, image) in enumerate(insightface_records()[1:10]):
        encoded, read_label = source.read(index)
        assert bytes(encoded) == image and read_label == label and type(read_label) is int
        assert source.where(index).endswith(f"train.rec key {key} at offset {source._shards[0].reader.offset(key)}")
    assert decode(source.read(4)[0], source.where(4), size=24).tolist() == draw(1, 1).tolist()


def test_layout_without_header_by_mxnet() -> None:
    source = FaceRecords(FOLDER / "im2rec.rec")
    expected = sorted(im2rec_records())
    assert (len(source), source.num_classes) == (4, 2)
    assert source.labels().tolist() == [0, 0, 1, 1]
    assert [bytes(source.read(index)[0]) for index in range(4)] == [image for *_, image in expected]
    assert [source.read(index)[1] for index in range(4)] == [0, 0, 1, 1]


def test_two_labels_and_an_image_are_no_header_record(tmp_path: Path) -> None:
    source = FaceRecords(write(tmp_path / "a.rec", faces([1.0, 4.0], [0.0, 9.0])))
    assert len(source) == 2 and source.labels().tolist() == [1, 0] and source.num_classes == 2


def test_index_out_of_range() -> None:
    source = FaceRecords(FOLDER / "insightface")
    for index in (-1, 9):
        with pytest.raises(IndexError, match=f"image {index} of 9"):
            source.read(index)


def test_missing_index_gives_the_same_set(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = FaceRecords(folder)
    (folder / "train.idx").unlink()
    with pytest.raises(DataError, match="train.idx: the index cannot be read"):
        FaceRecords(folder, on_missing_idx="error")
    with caplog.at_level(logging.WARNING):
        source = FaceRecords(folder)
    assert "train.idx is missing: index of 13 records rebuilt" in caplog.text
    assert len(source) == 9 and source.labels().tolist() == expected.labels().tolist()
    assert all(bytes(source.read(i)[0]) == bytes(expected.read(i)[0]) for i in range(9))


def test_unknown_options() -> None:
    with pytest.raises(ConfigError, match="on_missing_idx is 'ignore'"):
        FaceRecords(FOLDER / "insightface", on_missing_idx="ignore")
    with pytest.raises(ConfigError, match="on_corrupt is 'ignore'"):
        FaceRecords(FOLDER / "insightface", on_corrupt="ignore")


def test_pickled_to_a_worker(folder: Path) -> None:
    source = FaceRecords(folder)
    labels = source.labels()
    copy = pickle.loads(pickle.dumps(source))
    assert bytes(copy.read(3)[0]) == bytes(source.read(3)[0]) and copy.labels().tolist() == labels.tolist()


def test_shards_share_one_label_space(tmp_path: Path) -> None:
    first = write(tmp_path / "one" / "b.rec", faces(0.0, 3.0))
    write(tmp_path / "one" / "c.rec", faces(5.0))
    second = shutil.copytree(FOLDER / "insightface", tmp_path / "two")
    source = FaceRecords([tmp_path / "one", second / "train.rec"])
    assert source.labels().tolist() == [0, 3, 5] + [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert [source.read(index)[1] for index in range(12)] == source.labels().tolist()
    assert source.where(0).startswith(str(first)) and "train.rec key 1 at" in source.where(3)
    with pytest.raises(DataError, match="label 3 is outside \\[0, 3\\), as are 1 others"):
        source.check()


def test_shards_without_property_count_their_labels(tmp_path: Path) -> None:
    for name, labels in (("a", (0.0, 7.0)), ("b", (2.0,))):
        write(tmp_path / name / "train.rec", faces(*labels))
    source = FaceRecords([tmp_path / "a", tmp_path / "b"])
    assert source.num_classes == 8
    source.check()


def test_properties_of_shards_must_agree(tmp_path: Path) -> None:
    for name, text in (("a", "8,112,112"), ("b", "9,112,112\n")):
        write(tmp_path / name / "train.rec", faces(0.0))
        (tmp_path / name / "property").write_text(text)
    with pytest.raises(DataError, match="a/property says 8; .*b/property says 9"):
        FaceRecords([tmp_path / "a", tmp_path / "b"])
    assert FaceRecords(tmp_path / "b").num_classes == 9


def test_property_must_agree_with_the_header(folder: Path) -> None:
    (folder / "property").write_text("4,112,112")
    with pytest.raises(DataError, match="property says 4; .*train.rec key 0 \\(header record\\) says 3"):
        FaceRecords(folder)


@pytest.mark.parametrize("text", ["\ufeff3,112,112", "3,112,112\r\n", "\ufeff 3, 112 ,112\r", "\n3,112,112"])
def test_property_as_an_editor_saves_it(text: str, folder: Path) -> None:
    (folder / "property").write_bytes(text.encode())
    assert FaceRecords(folder).num_classes == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "3,112",
        "x,112,112",
        "-3,112,112",
        "0,112,112",
        "3.0,112,112",
        "3 112 112",
        "9" * 5000 + ",112,112",
    ],
)
def test_malformed_property(text: str, folder: Path) -> None:
    (folder / "property").write_text(text)
    with pytest.raises(DataError, match="property: .* is not `num_classes,height,width`"):
        FaceRecords(folder)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (-1.0, "-1.0"),
        (0.5, "0.5"),
        (2.0**24, "16777216.0"),
        ([-2.0], "-2"),
    ],
)
def test_impossible_label(label: object, shown: str, tmp_path: Path) -> None:
    source = FaceRecords(write(tmp_path / "a.rec", faces(0.0, label)), on_corrupt="skip")
    for refuse in (source.labels, source.check, lambda: source.read(1)):
        with pytest.raises(DataError, match=f"a.rec key 1 at offset .*: label {shown}.* is not a whole number"):
            refuse()
    assert source.read(0)[1] == 0


def test_unreadable_property(folder: Path) -> None:
    (folder / "property").unlink(missing_ok=True)
    (folder / "property").mkdir()
    with pytest.raises(DataError, match="property: the number of classes cannot be read .Is a directory"):
        FaceRecords(folder)


def test_label_outside_the_property(tmp_path: Path) -> None:
    source = FaceRecords(write(tmp_path / "a.rec", faces(0.0, 2.0, 1.0)))
    source.check()
    (tmp_path / "property").write_text("2,112,112")
    source = FaceRecords(tmp_path / "a.rec")
    with pytest.raises(DataError, match="a.rec key 1 at offset .*: label 2 is outside \\[0, 2\\)"):
        source.check()


@pytest.mark.parametrize("payload", [b"", b"abc", b"GIF89a", FACE[1:]])
def test_record_without_a_face(payload: bytes, tmp_path: Path) -> None:
    records = [*faces(0.0), (1, 1.0, 1, payload)]
    source = FaceRecords(write(tmp_path / "a.rec", records))
    for refuse in (source.labels, source.check, lambda: source.read(1)):
        with pytest.raises(DataError, match="a.rec key 1 at offset .*: the record holds no JPEG or PNG"):
            refuse()


def test_corrupt_records_can_be_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.rec", faces(0.0, 1.0, 2.0))
    raw = bytearray(path.read_bytes())
    raw[RecordReader(path).offset(1)] ^= 1
    path.write_bytes(raw[:-8])
    with pytest.raises(DataError, match="a.rec key 1 at offset"):
        FaceRecords(path).check()
    source = FaceRecords(path, on_corrupt="skip")
    with caplog.at_level(logging.WARNING):
        source.check()
    assert source.labels().tolist() == [0, -1, -1] and "2 of 3 records cannot be read" in caplog.text
    with pytest.raises(DataError, match="a.rec key 2 at offset"):
        source.read(2)


def test_no_readable_record_is_an_error_with_skip_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(key, 0.0, key, b"no image") for key in range(3)])
    for refuse in (lambda source: source.check(), lambda source: source.labels(), lambda source: source.num_classes):
        with pytest.raises(DataError, match="a.rec key 0 at offset 0: not one of the 3 records"):
            refuse(FaceRecords(path, on_corrupt="skip"))


def test_labels_of_records_of_several_parts(tmp_path: Path) -> None:
    magic = struct.unpack("<I", MAGIC)[0]
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        writer.write(0, pack(Header(0, 4.0, magic, 0), FACE + MAGIC))
        writer.write(1, pack(Header(0, 5.0, magic << 32, magic), FACE))
        writer.write(2, pack(Header(0, [6.0, 1.0], 0, magic << 32), FACE))
    source = FaceRecords(path)
    assert source.labels().tolist() == [4, 5, 6]
    assert [source.read(index)[1] for index in range(3)] == [4, 5, 6]
    assert bytes(source.read(1)[0]) == FACE


@pytest.mark.parametrize("label", [[1.0, 1.0], [0.0, 3.0], [float("nan"), 3.0], [2.5, 3.0], [-2.0, 3.0], [3.0, 2.0]])
def test_impossible_header_record(label: list[float], tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(0, label, 0, b""), (1, 0.0, 1, FACE)])
    with pytest.raises(DataError, match="a.rec key 0 at offset 0: header label .* is not"):
        FaceRecords(path)


def test_header_record_that_miscounts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(0, [4.0, 5.0], 0, b""), (1, 0.0, 1, FACE), (3, 0.0, 3, FACE)])
    with pytest.raises(DataError, match="announces 3 images, but the index has 2 of them and lacks key 2"):
        FaceRecords(path)
    path = write(tmp_path / "b.rec", [(0, [2.0, 3.0], 0, b""), (1, 0.0, 1, FACE), (2, 0.0, 2, FACE)])
    with pytest.raises(DataError, match="images end at key 1, but key 2 holds one"):
        FaceRecords(path)


@pytest.mark.parametrize("images", [2**24 + 2, 2**24 + 3, 2**24 + 5])
def test_header_rounded_by_float32(images: int) -> None:
    announced = int(np.float32(images + 1))
    keys = np.arange(images + 10)
    found = image_keys(keys, announced, lambda key: key <= images, "here")
    assert found[0] == 1 and images - 1 <= found[-1] <= images


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such file or folder"):
        FaceRecords(tmp_path / "none")
    with pytest.raises(DataError, match="no .rec file in this folder"):
        FaceRecords(tmp_path)
    with pytest.raises(DataError, match="each once"):
        FaceRecords([FOLDER / "insightface", FOLDER / "insightface" / "train.rec"])
    with pytest.raises(DataError, match="none given"):
        FaceRecords([])


def harmless(at: int, offset_of: dict[int, int]) -> bool:
    """Whether a byte belongs to a label, whose value no format can check."""
    return any(offset + 12 <= at < offset + 16 for key, offset in offset_of.items() if key in range(1, 10))


def mutations() -> Iterator[tuple[str, bytes, bytes]]:
    """Damaged copies of the golden set: (what was done, .rec, .idx)."""
    rec = (FOLDER / "insightface" / "train.rec").read_bytes()
    idx = (FOLDER / "insightface" / "train.idx").read_bytes()
    reader = RecordReader(FOLDER / "insightface" / "train.rec")
    starts = dict(zip(reader.keys.tolist(), reader.offsets.tolist(), strict=True))
    rng = np.random.default_rng(20)
    near = sorted({start + step for start in starts.values() for step in range(40) if start + step < len(rec)})
    for at in [*near, *rng.integers(0, len(rec), 60).tolist()]:
        if not harmless(at, starts):
            for flip in (0x01, 0x20, 0x80, 0xFF):
                yield f"byte {at} ^ {flip}", rec[:at] + bytes([rec[at] ^ flip]) + rec[at + 1 :], idx
    for at in [0, 1, 7, 8, 33, 40, *near[5::17], *rng.integers(0, len(rec), 30).tolist(), len(rec) - 1, len(rec) - 4]:
        yield f"cut at {at}", rec[:at], idx
        yield f"cut at {at}, no index", rec[:at], b""
    for at in rng.integers(0, len(rec) // 4, 40).tolist():
        size = 4 * int(rng.integers(1, 600))
        yield f"{size} bytes out at {4 * at}", rec[: 4 * at] + rec[4 * at + size :], idx
        yield f"{size} zeros in at {4 * at}", rec[: 4 * at] + bytes(size) + rec[4 * at :], idx
        yield f"{size} bytes twice at {4 * at}", rec[: 4 * at + size] + rec[4 * at :], idx
        yield f"{size} zeros over {4 * at}", rec[: 4 * at] + bytes(size) + rec[4 * at + size :], idx
    for at in range(len(idx)):
        for byte in b"0\t\n-9":
            yield f"index byte {at} = {byte}", rec, idx[:at] + bytes([byte]) + idx[at + 1 :]
    for at in range(1, len(idx), 3):
        yield f"index cut at {at}", rec, idx[:at]


def test_damaged_files_never_give_a_wrong_label(tmp_path: Path) -> None:
    records = insightface_records()[1:10]
    truth = {decode(image, "golden", size=24).tobytes(): int(label) for _, label, _, image in records}
    refused = served = 0
    for what, rec, idx in mutations():
        path = tmp_path / "train.rec"
        path.write_bytes(rec)
        path.with_suffix(".idx").unlink(missing_ok=True)
        if idx:
            path.with_suffix(".idx").write_bytes(idx)
        try:
            source = FaceRecords(path)
        except DataError:
            refused += 1
            continue
        for index in range(len(source)):
            try:
                encoded, label = source.read(index)
                pixels = decode(encoded, source.where(index), size=24)
            except DataError:
                refused += 1
                continue
            served += 1
            assert truth.get(pixels.tobytes()) == label, what
        try:
            labels = source.labels().tolist()
        except DataError:
            continue
        assert set(labels) <= {0, 1, 2}, what
        assert len(labels) <= 9, what
    assert refused > 1000 and served > 1000


def test_real_faces(lfw: Path) -> None:
    source = FaceRecords(lfw / "train")
    assert (len(source), source.num_classes) == (4803, 629)
    labels = source.labels()
    source.check()
    assert np.array_equal(np.unique(labels), np.arange(629))
    assert [source.read(index)[1] for index in range(len(source))] == labels.tolist()
    ranges = RecordReader(lfw / "train" / "train.rec")
    first, last = np.frombuffer(ranges.read(4804)[24:], "<f4").astype(int)
    assert (labels[first - 1 : last - 1] == 0).all() and labels[last - 1] == 1


def named(folder: Path, names: str | None) -> Path:
    write(folder / "train.rec", faces(0, 1, 2))
    (folder / "property").write_text("3,112,112")
    if names is not None:
        (folder / "identities.tsv").write_text(names)
    return folder


def test_sources_whose_names_contradict_each_other_are_refused(tmp_path: Path) -> None:
    first = named(tmp_path / "a", "0\tAnna\n1\tBob\n2\tCy\n")
    assert FaceRecords(first).names() == {0: "Anna", 1: "Bob", 2: "Cy"}
    other = named(tmp_path / "b", "0\tAnna\n1\tBea\n2\tDan\n")
    with pytest.raises(DataError, match="label 1 is 'Bob' in .*a/identities.tsv and 'Bea' in .*b/identities.tsv"):
        FaceRecords([first, other])
    for third in ("0\tAnna\r\n1\tBob\r\n2\tCy", "2\tCy\n0\tAnna\n", None, ""):
        same = named(tmp_path / "c", third)
        assert len(FaceRecords([first, same])) == 6
        assert FaceRecords([same, first]).names() == {0: "Anna", 1: "Bob", 2: "Cy"}
        (same / "identities.tsv").unlink(missing_ok=True)
    with pytest.raises(DataError, match="d/identities.tsv line 2: 'Bob' is not a label, a tab and a name"):
        FaceRecords([first, named(tmp_path / "d", "0\tAnna\nBob\n")])


def test_shards_of_one_folder_have_one_file_of_names(tmp_path: Path) -> None:
    for name in ("1.rec", "2.rec"):
        write(tmp_path / name, faces(0, 1))
    (tmp_path / "identities.tsv").write_text("no names at all\n")
    assert len(FaceRecords(tmp_path)) == 4


def test_separate_label_spaces_follow_each_other(tmp_path: Path) -> None:
    """20 people and 20 others are 40, whatever a set says of itself."""
    first = named(tmp_path / "a", "0\tAnna\n1\tBob\n2\tCy\n")
    second = write(tmp_path / "b" / "train.rec", faces(1, 0, 3)).parent  # no property: 1 + the largest label
    third = named(tmp_path / "c", "0\tAnna\n2\tDan\n")
    source = FaceRecords([first, second, third], label_spaces="separate")
    assert (len(source), source.num_classes) == (9, 3 + 4 + 3)
    assert source.labels().tolist() == [0, 1, 2, 4, 3, 6, 7, 8, 9]
    assert [source.read(index)[1] for index in range(9)] == source.labels().tolist()
    assert source.names() == {0: "Anna", 1: "Bob", 2: "Cy", 7: "Anna", 9: "Dan"}
    source.check()
    copy = pickle.loads(pickle.dumps(source))
    assert [copy.read(index)[1] for index in (3, 8)] == [4, 9]
    assert source.fingerprint()["identities of each label space"] == [3, 4, 3]
    assert FaceRecords([third, first], label_spaces="separate").read(3)[1] == 3


def test_labels_are_read_in_any_order_of_asking(tmp_path: Path) -> None:
    sets = [write(tmp_path / name / "train.rec", faces(1, 0)).parent for name in "ab"]
    for index, label in ((3, 2), (2, 3), (0, 1)):
        assert FaceRecords(sets, label_spaces="separate").read(index)[1] == label


def test_shards_of_one_folder_are_one_label_space_beside_others(tmp_path: Path) -> None:
    for name in ("1.rec", "2.rec"):
        write(tmp_path / "a" / name, faces(0, 1))
    write(tmp_path / "b" / "train.rec", faces(0))
    source = FaceRecords([tmp_path / "b", tmp_path / "a"], label_spaces="separate")
    assert source.labels().tolist() == [0, 1, 2, 1, 2] and source.num_classes == 3
    alone = FaceRecords(tmp_path / "a", label_spaces="separate")
    assert alone.labels().tolist() == [0, 1, 0, 1] and alone.num_classes == 2


def test_a_label_outside_its_own_label_space_is_refused(tmp_path: Path) -> None:
    """It is a label of the next folder's people."""
    first, second = named(tmp_path / "a", None), named(tmp_path / "b", None)
    (first / "property").write_text("2,112,112")
    source = FaceRecords([first, second], label_spaces="separate")
    assert source.num_classes == 5
    with pytest.raises(DataError, match=r"a/train.rec key 2 .*: label 2 is outside \[0, 2\)"):
        source.read(2)
    with pytest.raises(DataError, match=r"a/train.rec key 2 .*: label 2 is outside \[0, 2\), as are 0 others"):
        source.check()


def test_unreadable_records_stay_without_a_label(tmp_path: Path) -> None:
    first = named(tmp_path / "a", None)
    second = write(tmp_path / "b" / "train.rec", [(0, 0, 0, FACE), (1, 1, 1, b"no image"), (2, 1, 2, FACE)]).parent
    source = FaceRecords([first, second], on_corrupt="skip", label_spaces="separate")
    assert source.labels().tolist() == [0, 1, 2, 3, -1, 4]


def test_people_that_nobody_can_tell_apart_are_not_mixed_in_silence(tmp_path: Path, caplog) -> None:
    first, second = named(tmp_path / "a", "0\tAnna\n1\tBob\n2\tCy\n"), named(tmp_path / "b", None)
    with caplog.at_level(logging.WARNING):
        FaceRecords([first, second])
    assert f"label 0 is taken for one person in all of them, and {second} has no identities.tsv" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        FaceRecords([first, second], label_spaces="separate")
        (second / "identities.tsv").write_text("0\tAnna\n")
        FaceRecords([first, second])
    assert not caplog.records


def test_a_contradiction_points_to_the_setting(tmp_path: Path) -> None:
    sets = [named(tmp_path / name, f"0\t{name}\n") for name in "ab"]
    with pytest.raises(DataError, match="set config.qgface.data.label_spaces = 'separate'"):
        FaceRecords(sets)
    with pytest.raises(ConfigError, match="label_spaces is 'own'; it is one of"):
        FaceRecords(sets, label_spaces="own")


def test_files_of_one_name_are_told_apart_by_ranks(tmp_path: Path) -> None:
    sets = [named(tmp_path / name, None) for name in "ab"]
    facts = FaceRecords(sets).fingerprint()
    assert {"bytes of train.rec (1)", "bytes of train.rec (2)"} <= facts.keys()
    assert "bytes of train.rec" in FaceRecords(sets[0]).fingerprint()

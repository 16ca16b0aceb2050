"""Inspection and contact sheets of sound and of damaged record sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import FOLDER, draw, png

from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.data.packing.contact_sheet import BACKGROUND, GAP, MARGIN, MISSING, WIDEST, _head, contact_sheet
from qgface_plugin.data.packing.inspection import data_found, inspect_records
from qgface_plugin.data.recordio import Header, RecordReader, RecordWriter, pack
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError, DataError


def write(path: Path, records: list[tuple[int, object, bytes]]) -> Path:
    with RecordWriter(path) as writer:
        for key, label, image in records:
            writer.write(key, pack(Header(0, label, key, 0), image))
    return path


def insightface(path: Path, labels: list[int], ranges: list[list[int]]) -> Path:
    n = len(labels)
    images = [(key, float(label), png(draw(label, key))) for key, label in enumerate(labels, start=1)]
    head = [(0, [n + 1, n + 1 + len(ranges)], b"")]
    return write(path, head + images + [(n + 1 + row, limits, b"") for row, limits in enumerate(ranges)])


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER / "insightface", tmp_path / "set")
    return tmp_path / "set"


def test_a_sound_set(golden: Path) -> None:
    found = inspect_records(golden)
    assert found.sound and found.problems == []
    assert (found.images, found.num_classes, found.identities) == (9, 3, 3)
    assert found.images_per_identity == {"min": 2, "median": 3.0, "mean": 3.0, "max": 4}
    assert found.histogram == {"2": 1, "3-4": 2}
    assert found.files[str(golden / "train.rec")]["layout"] == "InsightFace: header [10, 13], 3 of 3 range records"
    assert found.soundness.encodings == {"PNG": 9} and found.soundness.sides == {24: 9}
    assert (found.soundness.repeated, found.soundness.problems) == (0, [])
    assert inspect_records(golden, read_images=False).soundness is None


def test_images_only(tmp_path: Path) -> None:
    found = inspect_records(FOLDER / "im2rec.rec")
    assert found.sound and list(found.files.values())[0]["layout"] == "images only"
    image = encode_jpeg(draw(1, 1), 90)
    many = [(key, float(key >= 1), image) for key in range(1200)]
    found = inspect_records(write(tmp_path / "a.rec", many), read_images=False)
    assert found.histogram == {"1": 1, "1000+": 1}


def test_two_labels_and_an_image_are_no_header_record(tmp_path: Path) -> None:
    write(tmp_path / "train.rec", [(0, [0.0, 9.0], png(draw(0, 0))), (1, [1.0, 9.0], png(draw(1, 1)))])
    assert data_found(tmp_path)["layout"] == "train.rec (im2rec, without header record)"


def test_repeated_images(tmp_path: Path) -> None:
    a, b = png(draw(0, 0)), png(draw(1, 1))
    path = write(tmp_path / "a.rec", [(0, 0.0, a), (1, 0.0, b), (2, 0.0, a), (3, 1.0, a), (4, 1.0, a), (5, 2.0, b)])
    soundness = inspect_records(path).soundness
    assert (soundness.repeated, soundness.repeated_elsewhere) == (4, 3)


def test_damage_is_counted_and_named(golden: Path) -> None:
    path = golden / "train.rec"
    raw, offsets = bytearray(path.read_bytes()), RecordReader(path)
    raw[offsets.offset(2)] ^= 1  # the magic: no record any more
    raw[offsets.offset(5) + 1000] ^= 0xFF  # a pixel: the PNG's checksum
    path.write_bytes(raw)
    found = inspect_records(golden)
    assert not found.sound
    assert len(found.problems) == 1 and len(found.soundness.problems) == 2
    assert found.problems[0].startswith(f"1 records cannot be read, the first {path} key 2 at offset")
    assert "train.rec key 2" in found.soundness.problems[0] and "train.rec key 5" in found.soundness.problems[1]
    assert found.images == 9 and found.soundness.sides[24] == 9 - len(found.soundness.problems)
    assert not inspect_records(golden, read_images=False).sound


@pytest.mark.parametrize(
    ("labels", "ranges", "message"),
    [
        ([0, 0, 1], [[1, 3], [3, 4]], None),
        ([0, 0, 1], [[1, 2], [2, 4]], "1 range records hold no one identity, the first .*key 5"),
        ([0, 0, 1], [[1, 3], [3, 9]], "1 range records hold no one identity"),
        ([0, 0, 1], [[1, 3], [3, 3]], "1 range records hold no one identity"),
        ([0, 0, 1], [[1, 2], [3, 4]], "the range records cover 2 of 3 images"),
        ([0, 0, 1], [[1, 3], [3.0]], "1 range records hold no one identity"),
        ([0, 0, 2], [[1, 3], [3, 4], [1, 2]], "1 of 3 labels have no image, the first 1"),
    ],
)
def test_ranges_against_labels(labels: list[int], ranges: list, message: str | None, tmp_path: Path) -> None:
    problems = inspect_records(insightface(tmp_path / "a.rec", labels, ranges)).problems
    if message is None:
        assert problems == []
    else:
        assert len(problems) >= 1
        with pytest.raises(DataError, match=message):
            raise DataError("; ".join(problems))


def test_labels_outside_the_property(golden: Path) -> None:
    for suffix in ("rec", "idx"):
        (golden / f"train.{suffix}").unlink()
    write(golden / "train.rec", [(0, 0.0, png(draw(0, 0))), (1, 7.0, png(draw(1, 0)))])
    found = inspect_records(golden)
    assert any("label 7 is outside [0, 3)" in problem for problem in found.problems)


def test_nothing_readable(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(0, 0.0, b"text")])
    with pytest.raises(DataError, match="a.rec key 0 at offset 0: "):
        inspect_records(path)
    with pytest.raises(DataError, match="a.rec key 0 at offset 0: "):
        contact_sheet(FaceRecords(path, on_corrupt="skip"))


def test_contact_sheet(golden: Path) -> None:
    source = FaceRecords(golden)
    sheet = contact_sheet(source, rows=5, columns=3, size=24)
    step = 24 + GAP
    assert sheet.shape == (GAP + 3 * step, MARGIN + 3 * step, 3) and sheet.dtype == np.uint8
    for row, numbers in enumerate([(0, 1, 2), (0, 1), (0, 2, 3)]):  # the third of label 2 is spread over four images
        for column in range(3):
            cell = sheet[GAP + row * step :, MARGIN + column * step :][:24, :24]
            if column < len(numbers):
                assert np.array_equal(cell, draw(row, numbers[column]))
            else:
                assert (cell == BACKGROUND).all()
        assert (sheet[GAP + row * step :][:24, :MARGIN] != BACKGROUND).any()
    assert np.array_equal(contact_sheet(source, 2, 3, seed=5), contact_sheet(source, 2, 3, seed=5))
    with pytest.raises(ConfigError, match="0 x 3 images"):
        contact_sheet(source, rows=0, columns=3)


def test_unreadable_images_on_the_sheet(golden: Path) -> None:
    path = golden / "train.rec"
    raw, at = bytearray(path.read_bytes()), RecordReader(path).offset(1)
    raw[at + 100] ^= 0xFF
    path.write_bytes(raw)
    cell = contact_sheet(FaceRecords(golden, on_corrupt="skip"), size=24)[GAP:, MARGIN:][:24, :24]
    assert (cell == MISSING).all()


def test_surplus_bytes_are_counted_and_no_problem(tmp_path: Path) -> None:
    whole = encode_jpeg(draw(1, 1, 112), 90)
    images = [whole, whole[:-2], whole[:20] + b"\0\0" + whole[20:], whole + bytes(20), whole[: len(whole) // 2]]
    path = write(tmp_path / "train.rec", [(key, 0.0, image) for key, image in enumerate(images)])
    soundness = inspect_records(path).soundness
    assert soundness.surplus == 3 and soundness.encodings == {"JPEG": 4} and soundness.sides == {112: 4}
    assert len(soundness.problems) == 1 and "key 4" in soundness.problems[0]


def test_names_on_the_sheet(golden: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = contact_sheet(FaceRecords(golden), size=24)
    names = "0\tZo\u00eb\n1\t\u6797\r\n2\t" + "a very long name " * 30 + "\n"
    (golden / "identities.tsv").write_bytes(b"\xef\xbb\xbf" + names.encode() + b"7\tJos\xe9\n")
    named = contact_sheet(FaceRecords(golden), size=24)
    margin = named.shape[1] - plain.shape[1] + MARGIN
    assert MARGIN < margin <= WIDEST and np.array_equal(named[:, margin:], plain[:, MARGIN:])
    assert not np.array_equal(named[:, :MARGIN], plain[:, :MARGIN])
    assert _head("Zo\u00eb", 3, 1) == [("Zoe", 0.45), ("label 3, 1 image", 0.4)] and _head("\u6797", 3, 2)[0][0] == "?"
    assert _head(None, 3, 2) == [("3", 0.6), ("2 images", 0.4)]
    assert not caplog.records
    (golden / "identities.tsv").write_text("zero\tAnna\n")
    assert np.array_equal(contact_sheet(FaceRecords(golden), size=24), plain)
    assert "identities.tsv line 1: 'zero" in caplog.text

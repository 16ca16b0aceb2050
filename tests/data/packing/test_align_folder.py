"""Folders of photographs aligned by landmark files and by detectors."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_scrfd import write_detector

from qgface_plugin.data.image_files import list_photos, read_photo
from qgface_plugin.data.images import decode
from qgface_plugin.data.packing import detector
from qgface_plugin.data.packing.align_folder import AlignOptions, align_folder, given_landmarks, largest_face
from qgface_plugin.data.packing.alignment import TEMPLATE, align
from qgface_plugin.data.packing.detector import insightface_detector
from qgface_plugin.utils.errors import ConfigError, DataError

pytest.importorskip("skimage")

POINTS = TEMPLATE * 0.7 + 20
PNG = AlignOptions(format="png")


def photo(seed: int, height: int = 100, width: int = 130) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (width, height))


def save(path: Path, image_rgb: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image_rgb[..., ::-1])
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save(tmp_path / "photos" / "a" / "1.png", photo(1))
    save(tmp_path / "photos" / "a" / "deep" / "2.BMP", photo(2))
    save(tmp_path / "photos" / "3.png", photo(3))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".cache").mkdir()
    save(tmp_path / "photos" / ".cache" / "4.png", photo(4))
    return tmp_path / "photos"


def test_the_structure_is_kept_and_every_face_aligned(photos: Path, tmp_path: Path) -> None:
    names = ["3.png", "a/1.png", "a/deep/2.BMP"]
    assert list_photos(photos) == names
    landmarks = {name: POINTS + row for row, name in enumerate(names)}
    report = align_folder(photos, tmp_path / "out", given_landmarks(landmarks), PNG, set(names))
    assert (report.images, report.aligned, report.already, report.failures) == (3, 3, 0, [])
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        "3.png",
        "a/1.png",
        "a/deep/2.png",
    ]
    for name in names:
        written = read_photo((tmp_path / "out" / name).with_suffix(".png"))
        assert np.array_equal(written, align(read_photo(photos / name), landmarks[name]))


def test_jpeg_and_size(photos: Path, tmp_path: Path) -> None:
    find = given_landmarks({"3.png": POINTS})
    align_folder(photos, tmp_path / "out", find, AlignOptions(size=128, quality=100))
    written = decode((tmp_path / "out" / "3.jpg").read_bytes(), "3.jpg", 128)
    assert np.abs(written.astype(int) - align(photo(3), POINTS, 128)).mean() < 5


def test_failures_are_counted_and_listed(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (photos / "empty.png").write_bytes(b"")
    (photos / "folder.jpg").mkdir()
    save(photos / "outside.png", photo(5))
    save(photos / "point.png", photo(6))
    landmarks = {
        "3.png": POINTS,
        "broken.jpg": POINTS,
        "empty.png": POINTS,
        "outside.png": POINTS + 1000,
        "point.png": np.ones((5, 2)),
        "gone.png": POINTS,
    }
    report = align_folder(photos, tmp_path / "out", given_landmarks(landmarks), PNG, set(landmarks))
    assert (report.images, report.aligned, report.already) == (8, 1, 0)
    reasons = {
        "gone.png": "there is no such image",
        "a/1.png": "no landmarks are given for it",
        "a/deep/2.BMP": "no landmarks are given for it",
        "broken.jpg": "undecodable image of 10 bytes",
        "empty.png": "undecodable image of 0 bytes",
        "outside.png": "all landmarks lie outside the image of 130 x 100 pixels",
        "point.png": "landmarks all lie at",
    }
    assert dict(report.failures).keys() == reasons.keys()
    assert all(reasons[name] in reason for name, reason in report.failures)
    with open(tmp_path / "out" / "failures.csv", newline="") as file:
        assert list(csv.reader(file)) == [["path", "reason"], *map(list, report.failures)]


def test_an_interrupted_run_goes_on(photos: Path, tmp_path: Path) -> None:
    landmarks = {name: POINTS for name in list_photos(photos)}
    first = align_folder(photos, tmp_path / "out", given_landmarks({"3.png": POINTS}), PNG)
    assert (first.aligned, len(first.failures)) == (1, 2)
    (tmp_path / "out" / "3.png").write_bytes(b"kept")
    second = align_folder(photos, tmp_path / "out", given_landmarks(landmarks), PNG)
    assert (second.aligned, second.already, second.failures) == (2, 1, [])
    assert (tmp_path / "out" / "3.png").read_bytes() == b"kept" and not (tmp_path / "out" / "failures.csv").exists()
    third = align_folder(
        photos, tmp_path / "out", given_landmarks(landmarks), AlignOptions(format="png", overwrite=True)
    )
    assert third.aligned == 3 and (tmp_path / "out" / "3.png").read_bytes() != b"kept"


def test_the_largest_face_is_taken(photos: Path, tmp_path: Path) -> None:
    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if np.array_equal(image, photo(3)):
            return np.zeros((0, 5)), np.zeros((0, 5, 2))
        boxes = np.array([[0, 0, 10, 10, 0.9], [20, 20, 60, 70, 0.6], [0, 0, 100, 5, 0.9]])
        return boxes, np.stack([POINTS + 1, POINTS, POINTS + 2])

    report = align_folder(photos, tmp_path / "out", largest_face(detect), PNG)
    assert (report.aligned, report.several_faces, report.failures) == (2, 2, [("3.png", "no face found")])
    assert np.array_equal(read_photo(tmp_path / "out" / "a" / "1.png"), align(photo(1), POINTS))


def test_insightfaces_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("insightface.model_zoo")
    save(tmp_path / "photos" / "1.png", photo(1, 640, 640))
    small = (0.95, np.array([10.0, 10.0, 90.0, 90.0]), TEMPLATE * 0.5)
    large = (0.70, np.array([200.0, 150.0, 500.0, 600.0]), TEMPLATE * 3 + [150, 100])
    write_detector(tmp_path / "models" / "pack" / "det_fake.onnx", [small, large])
    monkeypatch.setattr(detector, "models_folder", lambda: tmp_path / "models")
    for model in ("pack", str(tmp_path / "models" / "pack"), str(tmp_path / "models" / "pack" / "det_fake.onnx")):
        boxes, points = insightface_detector(model)(photo(1, 640, 640))
        assert len(boxes) == 2 and np.allclose(points[1], large[2], atol=1e-3)
    report = align_folder(tmp_path / "photos", tmp_path / "out", largest_face(insightface_detector("pack")), PNG)
    assert (report.aligned, report.several_faces) == (1, 1)
    expected = align(photo(1, 640, 640), points[1])
    assert np.array_equal(read_photo(tmp_path / "out" / "1.png"), expected)
    assert len(insightface_detector("pack", threshold=0.8)(photo(1, 640, 640))[0]) == 1


def test_without_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("insightface.model_zoo")
    monkeypatch.setattr(detector, "models_folder", lambda: tmp_path / "models")
    with pytest.raises(ConfigError, match="no face detector 'pack': neither a file pack, nor .*models/pack.*--landm"):
        insightface_detector("pack")
    with pytest.raises(ConfigError, match="threshold is 2"):
        insightface_detector("pack", threshold=2)
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(ConfigError, match="InsightFace's package.*pip install --no-deps"):
        insightface_detector("pack")


def test_folders_that_do_not_fit(photos: Path, tmp_path: Path) -> None:
    find = given_landmarks({})
    for output in (photos, photos / "out", tmp_path):
        with pytest.raises(ConfigError, match="are one in the other"):
            align_folder(photos, output, find, PNG)
    with pytest.raises(DataError, match="none: no such folder"):
        align_folder(tmp_path / "none", tmp_path / "out", find, PNG)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no image in it"):
        align_folder(tmp_path / "empty", tmp_path / "out", find, PNG)
    save(photos / "3.bmp", photo(3))
    with pytest.raises(ConfigError, match="1 files .* 3.png from 3.bmp, 3.png"):
        align_folder(photos, tmp_path / "out", find, PNG)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"size": 100}, "size is 100"),
        ({"format": "gif"}, "format is 'gif'"),
        ({"quality": 0}, "quality is 0"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_impossible_options(option: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AlignOptions(**option)


def test_names_that_are_no_utf8(photos: Path, tmp_path: Path) -> None:
    jose = os.fsdecode(b"Jos\xe9.png")
    (photos / "3.png").rename(photos / jose)
    (photos / os.fsdecode(b"bad\xe9.png")).write_bytes(b"no image")
    report = align_folder(photos, tmp_path / "out", lambda name, image: (POINTS, 1), PNG)
    assert (report.aligned, len(report.failures)) == (3, 1) and (tmp_path / "out" / jose).is_file()
    with (tmp_path / "out" / "failures.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["path", "bad\\udce9.png"]


def test_landmarks_with_backslashes(photos: Path, tmp_path: Path) -> None:
    names = ["3.png", "a\\1.png", "a\\deep\\2.BMP"]
    report = align_folder(photos, tmp_path / "out", given_landmarks(dict.fromkeys(names, POINTS)), PNG, set(names))
    assert (report.images, report.aligned, report.failures) == (3, 3, [])


def test_wrong_landmarks_are_failures_and_odd_ones_warnings(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "photos" / f"{number}.png", photo(number, 400, 400))
    good = {f"{number}.png": TEMPLATE * 1.5 + 100 for number in range(6)}
    profile = (TEMPLATE - TEMPLATE[0]) * [0.05, 1.5] + [[20, 0], [20, 0], [60, 0], [25, 0], [25, 0]] + 150
    strange = {
        **good,
        "0.png": (TEMPLATE * 1.5 + 100).T.reshape(5, 2),
        "1.png": TEMPLATE / 112,
        "2.png": TEMPLATE * 9,
        "3.png": profile,
        "4.png": np.full((5, 2), np.nan),
    }
    report = align_folder(tmp_path / "photos", tmp_path / "out", given_landmarks(strange), PNG)
    reasons = dict(report.failures)
    assert report.aligned == 2 and set(reasons) == {"0.png", "1.png", "2.png", "4.png"}
    assert "fit the template badly" in reasons["0.png"] and "five x before five y" in reasons["0.png"]
    assert "fractions of the image" in reasons["1.png"] and "landmarks lie outside" in reasons["2.png"]
    assert "it is listed without landmarks" in reasons["4.png"]
    assert len(report.warnings) == 1 and "1 of 2 faces fit the template badly" in report.warnings[0]
    assert "3.png" in report.warnings[0]
    assert align_folder(tmp_path / "photos", tmp_path / "out2", given_landmarks(good), PNG).warnings == []
    turned = {name: 400 - points for name, points in good.items()}
    smaller = {name: points * 0.4 for name, points in good.items()}
    for landmarks, words in ((turned, "6 of 6 faces are turned"), (smaller, "6 of 6 faces lie in the upper left")):
        report = align_folder(tmp_path / "photos", tmp_path / words, given_landmarks(landmarks), PNG)
        assert report.aligned == 6 and [words in warning for warning in report.warnings] == [True]


def test_cut_photographs_are_failures_and_surplus_bytes_are_counted(tmp_path: Path) -> None:
    whole = cv2.imencode(".jpg", photo(1, 300, 300))[1].tobytes()
    for name, content in (("a", whole), ("b", whole[:-2]), ("c", whole[: len(whole) // 2])):
        (tmp_path / f"{name}.jpg").write_bytes(content)
    find = given_landmarks({f"{name}.jpg": TEMPLATE + 90 for name in "abc"})
    report = align_folder(tmp_path, tmp_path.with_name("out"), find, PNG)
    assert report.aligned == 2 and dict(report.failures).keys() == {"c.jpg"}
    assert "the JPEG is cut short" in report.failures[0][1]
    assert report.warnings == ["1 JPEG carries surplus bytes or lacks its end marker; no pixel is missing, it is used"]

"""Detectors by name: which one is meant, what functions of one's own may return, OpenCV's YuNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_yunet import write_yunet

from qgface_plugin.data.packing.align_folder import largest_face
from qgface_plugin.data.packing.alignment import TEMPLATE
from qgface_plugin.data.packing.detectors import find_detector, is_yunet, own_detector
from qgface_plugin.utils.errors import ConfigError, DataError

IMAGE = np.zeros((64, 96, 3), np.uint8)
SMALL, LARGE = TEMPLATE * 0.3, TEMPLATE * 0.5 + 20


def test_own_function_by_module_by_file_and_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    points = "[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]"
    code = f"def faces(image):\n    assert image[0, 0].tolist() == [9, 8, 7]\n    return [{points}]\n"
    (tmp_path / "my_faces_18.py").write_text(code)
    rgb = np.zeros((4, 4, 3), np.uint8) + np.array([9, 8, 7], np.uint8)
    for name in ("my_faces_18:faces", f"{tmp_path}/my_faces_18.py:faces"):
        boxes, points = find_detector(name)(rgb)
        assert boxes.tolist() == [[1, 2, 9, 10]] and points[0].tolist()[4] == [9, 10]
    assert find_detector(lambda image: [LARGE])(IMAGE)[1].shape == (1, 5, 2)


@pytest.mark.parametrize(
    ("found", "count"), [(None, 0), ([], 0), (([], []), 0), ([SMALL], 1), ([SMALL, LARGE], 2), ((SMALL, LARGE), 2)]
)
def test_what_it_may_return(found: object, count: int) -> None:
    boxes, points = own_detector(lambda image: found, "mine")(IMAGE)
    assert len(boxes) == count and points.shape == (count, 5, 2)


def test_the_largest_box_decides_and_without_boxes_the_landmarks_do() -> None:
    boxes = np.array([[0, 0, 60, 60], [20, 20, 40, 40]])
    for found, expected in ((([*boxes], [SMALL, LARGE]), SMALL), ([SMALL, LARGE], LARGE)):
        if isinstance(found, tuple):
            found = (boxes, np.stack([SMALL, LARGE]))
        points, count = largest_face(own_detector(lambda image, found=found: found, "mine"))("a.jpg", IMAGE)
        assert count == 2
        np.testing.assert_allclose(points, expected)
    with pytest.raises(DataError, match="no face found"):
        largest_face(own_detector(lambda image: None, "mine"))("a.jpg", IMAGE)


@pytest.mark.parametrize(
    "found",
    [[SMALL[:4]], [["a"] * 5], (np.zeros((1, 4)), np.zeros((2, 5, 2))), (np.zeros((2, 3)), np.zeros((2, 5, 2)))],
)
def test_what_it_may_not_return(found: object) -> None:
    with pytest.raises(ConfigError, match=r"--detector mine returns .*five points"):
        own_detector(lambda image: found, "mine")(IMAGE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_18:faces", "cannot be imported"),
        ("nowhere.py:faces", "no such file"),
        ("json:faces", "has no function faces"),
        ("json:__doc__", "has no function"),
    ],
)
def test_functions_that_are_not_there(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_detector(name)


def test_threshold_and_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="threshold"):
        find_detector("json:dumps", 2)
    pytest.importorskip("insightface")
    with pytest.raises(ConfigError, match="no face detector"):
        find_detector("buffalo_l")


def test_yunet(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    box, points = np.array([100.0, 60.0, 80.0, 90.0]), TEMPLATE * 0.7 + np.array([100.0, 60.0])
    file = write_yunet(tmp_path / "yunet.onnx", 0.9, box, points.astype(np.float64))
    assert is_yunet(file) and not is_yunet(__file__)
    boxes, found = find_detector(str(file))(np.zeros((320, 320, 3), np.uint8))
    np.testing.assert_allclose(boxes, [[100, 60, 180, 150, 0.9]], atol=1e-3)  # its score: the root of class x object
    np.testing.assert_allclose(found[0], points, atol=1e-3)
    assert len(find_detector(str(file), 0.95)(np.zeros((320, 320, 3), np.uint8))[0]) == 0
    (tmp_path / "bad.onnx").write_bytes(b"cls_8 obj_8 bbox_8 kps_8")
    with pytest.raises(ConfigError, match="YuNet"):
        find_detector(str(tmp_path / "bad.onnx"))

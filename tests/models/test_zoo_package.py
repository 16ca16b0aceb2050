"""Packages of InsightFace 2.1: what its model zoo, FaceAnalysis and our own loader make of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_scrfd import write_detector
from small_models import noise_images, write_model

from qgface_plugin.commands.export import main
from qgface_plugin.data.packing.alignment import TEMPLATE, align
from qgface_plugin.models import load_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
POINTS = TEMPLATE * 3 + [150, 100]
FLAGS = pytest.mark.parametrize("flags", [(), ("--uint8",)], ids=["float", "uint8"])


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "run")
    return tmp_path / "run" / "model.pt"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return write_detector(tmp_path / "det.onnx", [(0.9, np.array([200.0, 150.0, 500.0, 600.0]), POINTS)])


@FLAGS
def test_model_zoo_face_analysis_and_our_loader(
    model: Path, detector: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    zoo, app = pytest.importorskip("insightface.model_zoo"), pytest.importorskip("insightface.app")
    if not hasattr(zoo.model_zoo, "load_model_package"):
        pytest.skip("InsightFace before 2.1 has no packages")
    (tmp_path / "licence.txt").write_text("for research\n")
    folder = tmp_path / "ours"
    given = ("--model", model, "--package", folder, "--detector", detector, "--license", tmp_path / "licence.txt")
    assert run(*given, *flags, "--name", "ours-1") == 0
    images = noise_images(3)
    plain = load_model(str(model), device="cpu").embed(images).original
    norms = np.linalg.norm(plain, axis=1, keepdims=True)

    recogniser = zoo.get_model(str(folder), model_task="recognition", providers=["CPUExecutionProvider"])
    found = recogniser.get_feat([image[..., ::-1].copy() for image in images])
    assert np.abs((found - plain) / norms).max() <= 1e-5
    ours = load_model(str(folder), device="cpu").embed(images).original
    assert np.abs((ours - plain) / norms).max() <= 1e-5

    analysis = app.FaceAnalysis(str(folder), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=-1)
    photo = cv2.resize(images[0], (640, 640))
    (face,) = analysis.get(photo[..., ::-1].copy())
    expected = load_model(str(model), device="cpu").embed(align(photo, face.kps)[None]).original[0]
    assert np.abs(face.embedding - expected).max() <= 1e-5 * np.linalg.norm(expected)
    assert (folder / "MODEL.LICENSE").read_text() == "for research\n"


@FLAGS
def test_manifest(model: Path, tmp_path: Path, flags: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "ours"
    for _ in range(2):  # its own package is written over
        assert run("--model", model, "--package", folder, *flags) == 0
    assert "licence was not stated" in capsys.readouterr().err
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["MODEL.LICENSE", "manifest.json", "recognition.onnx"]
    digest = hashlib.sha256((folder / "recognition.onnx").read_bytes()).hexdigest()
    preprocessing = "embedded" if flags else {"mean": 127.5, "std": 127.5}
    assert manifest["manifest_version"] == 2 and manifest["license"] == "MODEL.LICENSE"
    assert manifest["tasks"] == {
        "recognition": {
            "file": "recognition.onnx",
            "sha256": digest,
            "input_size": [112, 112],
            "embedding_dimension": 16,
            "preprocessing": preprocessing,
        }
    }


def test_refused(model: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "no.onnx").write_bytes(b"x")
    folder = tmp_path / "new"
    for arguments, words in (
        ((), "one of them"),
        (("--package", folder, "-o", tmp_path / "a.onnx"), "one of them"),
        (("-o", tmp_path / "a.onnx", "--detector", detector), "--detector is for a --package"),
        (("--package", tmp_path / "mine"), "no package of this command"),
        (("--package", folder, "--name", "a b"), "'a b'"),
        (("--package", folder, "--license", tmp_path / "empty"), "licence is empty"),
        (("--package", folder, "--detector", tmp_path / "absent.onnx"), "no such detector"),
        (("--package", folder, "--detector", tmp_path / "no.onnx"), "cannot be loaded"),
    ):
        assert run("--model", model, *arguments) == 2
        assert words in capsys.readouterr().err
    assert not folder.exists()

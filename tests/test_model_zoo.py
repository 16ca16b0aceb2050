"""Models by insightface's names, in a folder of models that is made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import noise_images, write_model, write_onnx
from torch import nn

from qgface_plugin.evaluation.models import load_model
from qgface_plugin.utils.errors import CheckpointError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
IMAGES = noise_images(2)


class Blocks(nn.Module):
    """Mean colours of blocks: a recognition model at 112 pixels, something else at other sides or with more outputs."""

    def __init__(self, factor: float = 1.0, outputs: int = 1) -> None:
        super().__init__()
        self.factor, self.outputs = factor, outputs

    def forward(self, x: torch.Tensor):
        features = self.factor * nn.functional.avg_pool2d(x, 16).flatten(1)
        return tuple(features + i for i in range(self.outputs)) if self.outputs > 1 else features


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """insightface's folder in an own home, with the pack `buffalo_x` of a detector, landmarks and recognition."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".insightface" / "models"
    pack = folder / "buffalo_x"
    names = [f"o{i}" for i in range(6)]
    write_onnx(pack / "det_10g.onnx", Blocks(outputs=6), output_names=names, dynamic_axes=None)
    write_onnx(pack / "2d106det.onnx", Blocks(), side=192)
    write_onnx(pack / "w600k_r50.onnx", Blocks(2.0))
    return folder


def test_recognition_model_of_a_pack(models: Path) -> None:
    loaded = load_model("buffalo_x")
    assert (loaded.name, loaded.dim) == ("buffalo_x/w600k_r50", 147)
    expected = 2 * (IMAGES / 127.5 - 1).transpose(0, 3, 1, 2).reshape(2, 3, 7, 16, 7, 16).mean((3, 5)).reshape(2, 147)
    np.testing.assert_allclose(loaded.embed(IMAGES).original, expected, atol=1e-4)
    assert load_model(str(models / "buffalo_x")).name == "buffalo_x/w600k_r50"


def test_a_file_in_the_folder(models: Path) -> None:
    write_onnx(models / "mine.onnx", Blocks())
    assert load_model("mine").name == load_model("mine.onnx").name == "mine"


def test_a_pack_whose_manifest_names_its_model(models: Path) -> None:
    write_onnx(models / "raccoon" / "a.onnx", Blocks(3.0))
    write_onnx(models / "raccoon" / "b.onnx", Blocks(1.0))
    task = {"file": "b.onnx", "preprocessing": {"mean": 100.0, "std": 50.0}}
    manifest = {"manifest_version": 2, "tasks": {"recognition": task}}
    (models / "raccoon" / "manifest.json").write_text(json.dumps(manifest))
    loaded = load_model("raccoon")
    expected = ((IMAGES - 100.0) / 50).transpose(0, 3, 1, 2).reshape(2, 3, 7, 16, 7, 16).mean((3, 5)).reshape(2, 147)
    assert loaded.name == "raccoon/b"
    np.testing.assert_allclose(loaded.embed(IMAGES).original, expected, atol=1e-4)
    del task["preprocessing"]["std"]
    (models / "raccoon" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest.json names no recognition model \(KeyError\('std'\)\)"):
        load_model("raccoon")


def test_what_is_not_there(models: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"antelope is no file, and no model of insightface: neither .*there are b"
    ):
        load_model("antelope")
    with pytest.raises(CheckpointError, match="runs/antelope does not exist"):
        load_model("runs/antelope")
    with pytest.raises(CheckpointError, match="model.pt does not exist"):
        load_model("model.pt")


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("a connection was made"))
    with pytest.raises(CheckpointError, match=r"\(nothing is\).*not downloaded here: python -c .*'buffalo_l'"):
        load_model("buffalo_l")
    assert not list(tmp_path.iterdir())


def test_a_pack_without_a_recognition_model(models: Path) -> None:
    (models / "buffalo_x" / "w600k_r50.onnx").unlink()
    with pytest.raises(
        CheckpointError, match=r"no recognition model \(2d106det.onnx: .*192 x 192.*; det_10g.onnx: .*6 outputs"
    ):
        load_model("buffalo_x")


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder without model.pt and without .onnx files"):
        load_model(str(tmp_path))
    write_model(tmp_path)
    write_onnx(tmp_path / "x.onnx", Blocks())
    assert load_model(str(tmp_path)).network == "quick"

"""Lower precision: the file is smaller, gives nearly the same features, and says how nearly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_models import noise_images, write_model

from qgface_plugin.commands.export import main
from qgface_plugin.data.images import encode_png
from qgface_plugin.models import load_model

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(("precision", "least"), [("float16", 0.9999), ("int8", 0.9)])
def test_what_is_written_is_what_is_said(precision: str, least: float, tmp_path: Path) -> None:
    write_model(tmp_path / "run", size=64)
    images = noise_images(3)
    for number, image in enumerate(images):
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "faces" / f"{number}.png").write_bytes(encode_png(image))
    given = ["--model", tmp_path / "run", "-o", tmp_path / "a.onnx", "--images", tmp_path / "faces"]
    given += ["--precision", precision, "--json", tmp_path / "a.json"]
    for _ in range(2):  # its own file and report are written over
        assert main([str(argument) for argument in given]) == 0
    said = json.loads((tmp_path / "a.json").read_text())["precision"]
    plain = load_model(str(tmp_path / "run"), device="cpu").embed(images)
    found = load_model(str(tmp_path / "a.onnx"), device="cpu").embed(images)
    cosines = (plain.original * found.original).sum(axis=1) / plain.norms / found.norms
    assert least <= cosines.min() < 1.0000001 and said["images"] == 3 and said["kind"] == "real"
    assert said["lowest_cosine"] == pytest.approx(float(cosines.min()), abs=1e-4)
    assert said["norm_ratio"] == pytest.approx(float(np.median(found.norms / plain.norms)), abs=1e-3)
    assert said["bytes"] == (tmp_path / "a.onnx").stat().st_size < 0.7 * said["bytes_before"]

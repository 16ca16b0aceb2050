"""`qgface import` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_styles import folded, graph_of, odd_encoder, save
from small_models import seeded

from qgface_plugin.__main__ import main
from qgface_plugin.models import load_model
from qgface_plugin.models.backbones import get_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(folded(seeded("mbf", 16)), folder / "mbf.onnx")
    save(odd_encoder(), folder / "odd.onnx")
    return folder


def test_a_known_network(models, tmp_path, capsys):
    out, report = tmp_path / "model.pt", tmp_path / "model.json"
    assert main(["import", str(models / "mbf.onnx"), "-o", str(out), "--json", str(report)]) == 0
    shown = capsys.readouterr().out
    assert "mbf" in shown and "49 were folded away" in shown
    found = json.loads(report.read_text())
    assert found["network"] == "mbf" and found["embedding_size"] == 16 and found["difference"] <= 1e-5
    weights = torch.load(out, weights_only=True)
    get_model("mbf", 16).load_state_dict(weights)  # by arcface_torch's names: a checkout's network does the same
    images = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    ours, theirs = (load_model(str(path), device="cpu").embed(images).original for path in (out, models / "mbf.onnx"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.linalg.norm(theirs, axis=1).min())


def test_a_graph_and_an_order_of_channels(models, tmp_path, capsys):
    out = tmp_path / "model.pt"
    typed = ["import", str(models / "odd.onnx"), "-o", str(out), "--color", "bgr", "--mean", "127.5", "--std", "128"]
    assert main(typed) == 0
    shown = capsys.readouterr().out
    assert "graph" in shown and "4 were folded away" in shown
    assert main(typed) == 0  # over its own
    images = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    ours = load_model(str(out), device="cpu").embed(images).original
    options = dict(color="bgr", mean=(127.5,), std=(128.0,), device="cpu")
    theirs = load_model(str(models / "odd.onnx"), **options).embed(images).original
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.linalg.norm(theirs, axis=1).min())
    plain = load_model(str(models / "odd.onnx"), device="cpu").embed(images).original
    assert np.abs(plain - theirs).max() > 1e-3, "nothing would be seen"


def test_what_cannot_be_imported_is_named(models, tmp_path, capsys):
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["a"]),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("CumSum", ["b", "axis"], ["embedding"], "the_sum"),
    ]
    path = save(graph_of(nodes, {"axis": np.array(1)}, 3), tmp_path / "model.onnx")
    assert main(["import", str(path), "-o", str(tmp_path / "model.pt")]) == 2
    assert "node the_sum is CumSum, which cannot be trained here" in capsys.readouterr().err
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(
    "typed, message",
    [
        (["absent.onnx", "-o", "x.pt"], "absent.onnx is no file"),
        (["{models}/mbf.onnx", "-o", "x.onnx"], "x.onnx"),
        (["{models}/mbf.onnx", "-o", "mine.pt"], "mine.pt"),
        (["{models}/mbf.onnx", "-o", "x.pt", "--mean", "1"], "--mean is given alone"),
        (["mine.pt", "-o", "x.pt"], "mine.pt is PyTorch weights already"),
    ],
)
def test_input_that_does_not_fit(models, typed, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"mine": 1}, "mine.pt")
    assert main(["import", *(text.format(models=models) for text in typed)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.pt"]

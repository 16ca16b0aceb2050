"""Every recipe of the project loads, says what it should, and takes two steps on a CPU with a small data set."""

from __future__ import annotations

import json

import pytest
from paths import RECIPES
from recipe_runs import two_steps
from tiny import tiny_model, write_faces

from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.models.weights import export_backbone
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train

PATHS = sorted(RECIPES.glob("*.py"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_takes_two_steps(path, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    export_backbone(tmp_path / "model.pt", tiny_model("", 512, False).state_dict())
    monkeypatch.setenv("INIT_FROM", str(tmp_path / "model.pt"))  # of those that start from an encoder
    train(two_steps(path, tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [1, 2]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_says_how_it_is_launched(path):
    assert f"train_v2.py recipes/{path.name}" in path.read_text().split('"""')[1]


def test_the_papers_recipe_is_the_papers():
    run = load_recipe(RECIPES / "qgface_r34.py", {})
    method = run.qgface
    assert (run.network, run.lr, run.momentum, run.weight_decay) == ("r34", 0.2, 0.9, 5e-4)
    assert (run.num_epoch, run.batch_size) == (12, 128)
    assert (run.train.schedule, run.train.milestones, run.train.gamma) == ("step", (6, 9), 0.1)
    assert (method.m, method.s, method.b, method.queue, method.queue_size) == (0.4, 64.0, 0.2, "proxy", None)
    assert run.train.features_bias is False


def test_the_papers_backbone_takes_two_steps(tmp_path):
    write_faces(tmp_path / "data")
    train(two_steps(RECIPES / "qgface_r34.py", tmp_path))
    assert (tmp_path / "out" / "model.pt").stat().st_size > 100e6

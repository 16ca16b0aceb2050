"""Both trainers train alike and resume exactly: sources of quality, a running threshold and other heads."""

from __future__ import annotations

import json

import pytest
from checkouts import MINI, metrics, run, write_recipe
from tiny import tiny_model, tiny_run

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import TrainOptions
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train

SETTINGS = {
    "degradation": {"quality": "degradation", "b_quantile": 0.5},
    "sharpness": {"quality": "sharpness", "b_quantile": 0.4, "margin": "curricularface", "curricular_momentum": 0.3},
    "certainty": {"quality": "certainty", "b_quantile": 0.3, "margin_quality": "norm"},
    "magface": {"margin": "magface", "magface_norms": (1.0, 5.0), "b": 0.5},
}
KEYS = ("loss", "contrastive", "b", "lq_share_pair", "quality_order")
WITH_BOTH = f"""
import os, sys
from qgface_plugin.launch import run_recipe
from qgface_plugin.training import build
for recipe in ("two", "on", "three"):
    run_recipe(recipe)
del os.environ["ARCFACE_TORCH"]
sys.path.append({str(MINI)!r})
import backbones
from qgface_plugin.models.backbones.common import freeze_bias
def get_model(name, num_features, features_bias):
    model = backbones.get_model(name, num_features=num_features)
    freeze_bias(model.features)
    return model
build.get_model = get_model
run_recipe("builtin")
"""


def lines(path) -> list[dict]:
    return [line for line in map(json.loads, (path / "metrics.jsonl").read_text().splitlines()) if "loss" in line]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_built_in_loop_resumes_exactly(folder, monkeypatch, name):
    monkeypatch.setattr(build, "get_model", tiny_model)
    method, half = QGFaceConfig(**SETTINGS[name]), TrainOptions(max_steps=5, checkpoint_every=5)
    train(tiny_run(folder, qgface=method, output=str(folder / "straight")))
    train(tiny_run(folder, qgface=method, train=half))
    train(tiny_run(folder, qgface=method, resume=True))
    straight, resumed = lines(folder / "straight"), lines(folder / "out")
    assert len(straight) == 12
    for key in KEYS:
        assert [line[key] for line in resumed] == [line[key] for line in straight], key
    assert len({line["b"] for line in straight}) == (12 if method.b_quantile else 1)
    assert any(line["contrastive"] != 0 for line in straight)


REST = [pytest.param(name, marks=pytest.mark.long) for name in SETTINGS if name != "degradation"]


@pytest.mark.parametrize("name", ["degradation", *REST])
def test_a_checkout_trains_alike_and_resumes_exactly(folder, name):
    shared = f"config.qgface.update({SETTINGS[name]!r})\nconfig.frequent = 1\nconfig.num_epoch = 3\n"
    shared += "config.qgface.train.update(schedule='step', milestones=(1,))\n"
    for recipe, extra in (
        ("two", "config.output = 'work_dirs/checkout'\nconfig.num_epoch = 2\n"),
        ("on", "config.output = 'work_dirs/checkout'\nconfig.resume = True\n"),
        ("three", ""),
        ("builtin", ""),
    ):
        write_recipe(folder, recipe, shared + extra)
    done = run("-c", WITH_BOTH, cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0, done.stderr
    resumed, straight, ours = (metrics(folder / "work_dirs" / output) for output in ("checkout", "three", "builtin"))
    assert len(straight) == 18 and any(line["contrastive"] != 0 for line in straight)
    assert "training with the built-in loop" in done.stdout
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in straight], rel=1e-5)
    for key in KEYS:
        assert [line[key] for line in resumed] == [line[key] for line in straight], key

"""A checkpoint of commit 73bceb5 resumes, and the run goes on as that commit's code went on with it."""

from __future__ import annotations

import json
import shutil

import cv2
import pytest
import torch
from paths import ROOT
from tiny import TIMES, tiny_model, tiny_run, write_faces

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.torch_files import FORMAT

# PyTorch 2.13 and OpenCV 5 wrote the numbers; others add in another order, and rotate by other rounded positions.
OF_THEN = torch.__version__ >= "2.13" and cv2.__version__.startswith("5.")
SAVED = ROOT / "tests" / "data" / "checkpoint_73bceb5"  # make.py there has the runs
RUNS = {
    "one_rank": dict(
        optimizer="adamw", lr=0.003, gradient_acc=2, frequent=2, val_targets=("dev",), verbose=4,
        qgface=QGFaceConfig(queue="momentum", b_quantile=0.5),
    ),
    "two_ranks": dict(
        warmup_epoch=1, sample_rate=0.5, frequent=2, qgface=QGFaceConfig(queue="proxy", queue_size=40, b=0.4)
    ),
}  # fmt: skip


def shape(value):
    """Keys and types, all the way down; lengths and shapes of what is counted."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("name", RUNS)
def test_goes_on_with_the_same_losses(tmp_path, monkeypatch, name):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    shutil.copytree(SAVED / name, tmp_path / "out")
    train(tiny_run(tmp_path, batch_size=12, resume=True, **RUNS[name]))
    lines = map(json.loads, (tmp_path / "out" / "metrics.jsonl").read_text().splitlines())
    found = [{k: v for k, v in line.items() if k not in TIMES} for line in lines if line["step"] > 5]
    expected = json.loads((SAVED / name / "went_on.json").read_text())
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    assert [(line.pop("kind"), line["step"]) for line in found] == [
        (line.pop("kind"), line["step"]) for line in expected
    ]
    for line, other in zip(found, expected, strict=True):
        if "loss" in line:  # to the last bit where the processor adds in the same order
            apart = 1e-4 if OF_THEN else 2e-3 if line["step"] == 6 else 0.1  # runs part step by step
            assert line == pytest.approx(other, rel=apart, abs=1e-6)


def test_checkpoints_have_its_keys_and_types(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    train(tiny_run(tmp_path, batch_size=12, **RUNS["one_rank"]))
    then = torch.load(SAVED / "one_rank" / "checkpoint_gpu_0.pt", weights_only=True)
    now = torch.load(tmp_path / "out" / "checkpoint_gpu_0.pt", weights_only=True)
    added = [now["qgface"].pop(key) for key in ("names", "rank", "classes")]
    names = ["layer.weight", "layer.bias", "norm.weight", "norm.bias"]
    of_optimizer = [f"backbone.{name}" for name in names] + ["criterion.weight"]
    assert added == [{"backbone": names, "criterion": ["weight"], "optimizer": of_optimizer}, 0, [0, 6]]
    assert list(now) == list(then) and list(now["qgface"]) == list(then["qgface"])
    for saved in (then, now):
        del saved["qgface"]["recipe"], saved["qgface"]["record"]  # settings come and go; a line may be pending
        del saved["qgface"]["gradients"]  # wait for an update in one of the two
    for group in (*then["state_optimizer"]["param_groups"], *now["state_optimizer"]["param_groups"]):
        group.pop("decoupled_weight_decay", None)  # a key of torch's own, since 2.7
    for saved in (then, now):  # keys of torch's own, until 2.6 and after 2.9
        for key in ("verbose", "_is_initial"):
            saved["state_lr_scheduler"].pop(key, None)
    assert shape(now) == shape(then)


def test_there_is_a_checkpoint_of_each_format():
    found = {
        torch.load(path, weights_only=True)["qgface"]["format"] for path in SAVED.parent.glob("checkpoint_*/*/*.pt")
    }
    assert found == set(range(1, FORMAT + 1))

"""What moves in fine-tuning: layers by name, BatchNorm, a backbone that waits, and two rates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_run, write_faces
from torch import nn

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import FinetuneOptions, TrainOptions
from qgface_plugin.models.backbones import get_model
from qgface_plugin.training import build
from qgface_plugin.training.moving import Moving, frozen_layers
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import CheckpointError, ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    return tmp_path


def saved(folder: Path, step: int | None = None, out: str = "out") -> dict:
    name = "checkpoint_gpu_0.pt" if step is None else f"checkpoint_gpu_0.{step}.pt"
    return torch.load(folder / out / name, weights_only=True)


def network() -> nn.Module:
    return get_model("r18", 16)


@pytest.mark.parametrize(
    "pattern, first, last, count",
    [
        ("conv1", "conv1.weight", "conv1.weight", 1),
        ("layer1.0", "layer1.0.bn1.weight", "layer1.0.downsample.1.bias", 12),
        ("layer?.0.bn*", "layer1.0.bn1.weight", "layer4.0.bn3.bias", 24),
        (":layer1.0", "conv1.weight", "layer1.0.downsample.1.bias", 16),
        (":prelu", "conv1.weight", "prelu.weight", 4),
    ],
)
def test_names_and_patterns(pattern, first, last, count):
    names = frozen_layers(network(), [pattern])
    assert (names[0], names[-1], len(names)) == (first, last, count)


@pytest.mark.parametrize(
    "pattern, says",
    [
        ("layer5", "no layer is 'layer5'; did you mean .*'layer"),
        ("conv", "no layer is 'conv'; did you mean .*'conv1'"),
        ("stages.3", "the network's layers are conv1, bn1, prelu, layer1"),
        ("*", "means every layer"),
        (":features", "means every layer"),
    ],
)
def test_names_that_do_not_fit_are_refused(pattern, says):
    with pytest.raises(ConfigError, match=rf"config\.qgface\.finetune\.freeze.*{says}"):
        frozen_layers(network(), ["bn1", pattern])


def test_a_frozen_beginning_keeps_no_graph_and_its_statistics():
    model = network()
    moving = Moving(model, FinetuneOptions(freeze=(":layer2",)))
    moving.set_modes(model)
    seen = {}
    for name in ("layer2", "layer3"):
        getattr(model, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(2, 3, 112, 112)).sum().backward()
    assert not seen["layer2"].requires_grad and seen["layer3"].requires_grad
    after = model.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved and all(name.startswith(("layer3", "layer4", "bn2", "features")) for name in moved)
    assert all((p.grad is None) == (not name.startswith(("layer3", "layer4", "bn2", "fc", "features")))
               for name, p in model.named_parameters() if p.requires_grad or name.startswith("layer1"))  # fmt: skip


def test_frozen_batchnorm_keeps_statistics_and_trains_its_weights():
    model = network()
    Moving(model, FinetuneOptions(batchnorm="frozen")).set_modes(model)
    before = model.bn1.running_mean.clone()
    model(torch.randn(2, 3, 112, 112)).sum().backward()
    assert torch.equal(model.bn1.running_mean, before) and model.bn1.weight.grad is not None
    assert model.training and not model.bn1.training and not model.features.training


def test_layers_that_are_frozen_stay_to_the_last_bit(folder):
    train(tiny_run(folder, finetune=FinetuneOptions(freeze=("norm",)), num_epoch=1))
    at_first = build.make_backbone(tiny_run(folder), torch.device("cpu")).state_dict()
    at_last = saved(folder)
    trained = {name for name, value in at_last["state_dict_backbone"].items() if not torch.equal(value, at_first[name])}
    assert trained == {"layer.weight", "layer.bias"}
    assert at_last["qgface"]["names"]["optimizer"] == [
        "backbone.layer.weight",
        "backbone.layer.bias",
        "criterion.weight",
    ]


def test_the_backbone_waits_for_some_epochs(folder):
    every = TrainOptions(checkpoint_every=3, keep_checkpoints=9)
    train(tiny_run(folder, finetune=FinetuneOptions(frozen_epochs=1.5), num_epoch=2, train=every))  # 12 steps
    at_first = build.make_backbone(tiny_run(folder), torch.device("cpu")).state_dict()
    for step in (3, 6, 9):
        state = saved(folder, step)
        assert all(torch.equal(value, at_first[name]) for name, value in state["state_dict_backbone"].items())
        centres = state["state_dict_softmax_fc"]["weight"]
        assert not torch.equal(centres, saved(folder)["state_dict_softmax_fc"]["weight"])
    at_last = saved(folder)["state_dict_backbone"]
    assert {name for name in at_last if not torch.equal(at_last[name], at_first[name])} == at_last.keys()


def test_the_backbone_has_its_own_rate_and_the_same_schedule(folder):
    run = tiny_run(folder, lr=0.05, num_epoch=2, warmup_epoch=1, finetune=FinetuneOptions(backbone_lr=0.002))
    train(run)
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if line["kind"] == "train"]
    assert max(rates) == pytest.approx(0.05)
    state = saved(folder)
    assert state["state_lr_scheduler"]["base_lrs"] == [0.002, 0.05]
    plain = replace(run, output=str(folder / "plain"), finetune=FinetuneOptions())
    train(plain)
    assert saved(folder, out="plain")["state_lr_scheduler"]["base_lrs"] == [0.05, 0.05]
    here, there = (s["state_dict_backbone"]["layer.weight"] for s in (state, saved(folder, out="plain")))
    assert not torch.equal(here, there)


@pytest.mark.parametrize("change", [{"freeze": ("norm",)}, {"batchnorm": "frozen"}])
def test_a_resumed_run_must_freeze_the_same(folder, change):
    train(tiny_run(folder, num_epoch=1))
    with pytest.raises(CheckpointError, match=f"finetune.{next(iter(change))}"):
        train(tiny_run(folder, resume=True, finetune=FinetuneOptions(**change)))
    train(tiny_run(folder, resume=True, finetune=FinetuneOptions(backbone_lr=0.01)))


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"finetune": FinetuneOptions(init_centres="means")}, "init_from names no encoder"),
        ({"qgface": QGFaceConfig(teacher_weight=0.5)}, "teacher_weight is 0.5, but there is no teacher"),
        ({"qgface": QGFaceConfig(queue="teacher")}, "queue is 'teacher', but there is no teacher"),
        ({"qgface": QGFaceConfig(quality="teacher")}, "quality is 'teacher', but there is no teacher"),
    ],
)
def test_what_starts_from_nothing_is_refused(folder, settings, says):
    with pytest.raises(ConfigError, match=says):
        tiny_run(folder, **settings)


@pytest.mark.parametrize(
    "finetune, says",
    [(FinetuneOptions(init_centres="means"), "init_centres"), (FinetuneOptions(frozen_epochs=1), "nothing to train")],
)
def test_what_needs_classes_is_refused_without(folder, finetune, says):
    alone = QGFaceConfig(teacher_weight=1.0, classification_weight=0.0, queue="none")
    with pytest.raises(ConfigError, match=f"classification_weight is 0 .*{says}"):
        tiny_run(folder, init_from="model.pt", qgface=alone, finetune=finetune)

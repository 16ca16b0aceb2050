"""What a recipe becomes in a checkout's loop."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import IDENTITIES, IMAGES, tiny_run, write_faces
from torch import nn

from qgface_plugin.arcface_torch.replacements import Replacements
from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import TrainOptions
from qgface_plugin.models.weights import export_backbone
from qgface_plugin.utils.errors import CheckpointError, ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("parts")
    write_faces(path / "data")
    return path


class Named(nn.Module):
    """A backbone whose last BatchNorm1d is where the checkout's ViT has it."""

    def __init__(self, width: int = 8, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)
        self.feature = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(3, width), nn.BatchNorm1d(width, affine=affine))
        nn.init.ones_(self.norm.bias)
        if affine:
            nn.init.ones_(self.feature[2].bias)


def test_settings_are_the_hosts_keys_with_counts(folder):
    run = tiny_run(folder, wandb_key="secret", set_keys=frozenset({"lr"}))
    settings = Replacements(run).settings()
    assert (settings["num_classes"], settings["num_image"]) == (IDENTITIES, IDENTITIES * IMAGES)
    assert settings["rec"] == str(folder / "data") and settings["save_all_states"] is True
    assert settings["dali"] is False and settings["fp16"] is False and settings["resume"] is False
    assert settings["wandb_key"] is None  # the checkout logs every key
    assert not {"mlflow_experiment", "qgface", "train", "host", "init_from", "name", "set_keys"} & settings.keys()


def test_settings_of_a_file_name_its_folder_and_keep_what_is_set(folder):
    run = tiny_run(folder, rec=str(folder / "data" / "train.rec"), save_all_states=False,
                   set_keys=frozenset({"save_all_states"}))  # fmt: skip
    settings = Replacements(run).settings()
    assert settings["rec"] == str(folder / "data")
    assert settings["save_all_states"] is False


def test_keys_of_the_checkout_alone_are_its_own(folder):
    settings = Replacements(tiny_run(folder)).settings({"lr": 3.0, "of_a_fork": 7, "wandb_key": "theirs"})
    assert settings["of_a_fork"] == 7 and settings["lr"] == 0.05 and settings["wandb_key"] is None


def test_a_resume_without_checkpoint_starts_anew(folder, caplog):
    with caplog.at_level(logging.INFO, "qgface_plugin"):
        assert Replacements(tiny_run(folder, resume=True)).settings()["resume"] is False
    assert "holds no checkpoint: this run starts anew" in caplog.text
    (folder / "saved").mkdir()
    (folder / "saved" / "checkpoint_gpu_0.pt").touch()
    assert Replacements(tiny_run(folder, resume=True, output=str(folder / "saved"))).settings()["resume"] is True


def test_data_that_does_not_fit_is_named(folder):
    with pytest.raises(ConfigError, match="config.num_classes is 7, but .* has 6"):
        Replacements(tiny_run(folder, num_classes=7)).settings()
    with pytest.raises(DataError, match="no such file or folder"):
        Replacements(tiny_run(folder, rec=str(folder / "nothing"))).settings()


def test_the_last_norm_loses_its_bias_whatever_its_name(folder):
    backbone = Replacements(tiny_run(folder, train=TrainOptions(features_bias=False))).make_backbone(
        lambda name: Named(), "vit_t"
    )
    assert (backbone.feature[2].bias == 0).all() and not backbone.feature[2].bias.requires_grad
    assert (backbone.norm.bias == 1).all() and backbone.norm.bias.requires_grad
    kept = Replacements(tiny_run(folder)).make_backbone(lambda name: Named(), "vit_t")
    assert (kept.feature[2].bias == 1).all() and kept.feature[2].bias.requires_grad


@pytest.mark.parametrize("other", [nn.Linear(3, 8), Named(width=9), Named(affine=False)], ids=["none", "wide", "plain"])
def test_a_backbone_without_such_a_norm_is_named_in_the_log(folder, caplog, other):
    parts = Replacements(tiny_run(folder, train=TrainOptions(features_bias=False)))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    assert parts.make_backbone(lambda name: other, "vit_x") is other
    assert "features_bias = False does nothing: vit_x does not end in a BatchNorm1d" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_the_backbone_starts_from_the_recipes_seed_and_init_from(folder):
    run = tiny_run(folder)
    torch.manual_seed(0)
    one = Replacements(run).make_backbone(lambda name: Named(), "x")
    torch.manual_seed(1)
    two = Replacements(run).make_backbone(lambda name: Named(), "x")
    other = Replacements(replace(run, seed=4)).make_backbone(lambda name: Named(), "x")
    assert torch.equal(one.feature[1].weight, two.feature[1].weight)
    assert not torch.equal(one.feature[1].weight, other.feature[1].weight)
    export_backbone(folder / "model.pt", other.state_dict())
    loaded = Replacements(replace(run, init_from=str(folder / "model.pt"))).make_backbone(lambda name: Named(), "x")
    assert torch.equal(loaded.feature[1].weight, other.feature[1].weight)


def test_an_unknown_network_is_named(folder):
    def get_model(name):
        raise ValueError()

    with pytest.raises(ConfigError, match="config.network is 'quick': the checkout has no such backbone"):
        Replacements(tiny_run(folder)).make_backbone(get_model, "quick")


def test_the_criterion_follows_the_recipe(folder):
    parts = Replacements(tiny_run(folder, qgface=QGFaceConfig(queue="none", m=0.3, b=0.1), degradation=None))
    criterion = parts.make_criterion(parts.make_margin(), 8, 6, 0.5, False)
    assert (criterion.config.m, criterion.config.b, criterion.queue, criterion.views) == (0.3, 0.1, None, 1)
    assert criterion.sample_rate == 0.5 and criterion.weight.shape == (6, 8)
    assert "_extra_state" not in criterion.state_dict()


def test_milestones_become_steps(folder):
    options = TrainOptions(schedule="step", milestones=(1, 2), gamma=0.1)
    parts = Replacements(tiny_run(folder, num_epoch=3, lr=1.0, train=options))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = parts.make_schedule(optimizer, warmup=0.0, total=12)
    rates = []
    for _ in range(12):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step(), schedule.step()
    assert rates == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01] * 4)


def test_a_checkouts_warm_up_of_minus_1_is_none(folder):
    """`warmup_epoch = -1` reaches the schedule as minus the steps of an epoch."""
    parts = Replacements(tiny_run(folder, num_epoch=3, warmup_epoch=-1, lr=1.0))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = parts.make_schedule(optimizer, warmup=-4, total=12)
    optimizer.step(), schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(11 / 12)]


def test_a_network_whose_packages_are_missing_is_named(folder):
    def vit(name, **options):
        import a_package_that_is_not_there  # noqa: F401

    message = r"config.network is 'vit_t', for which .* 'a_package_that_is_not_there' \(.*test_replacements.py\)"
    with pytest.raises(ConfigError, match=message):
        Replacements(tiny_run(folder, network="vit_t")).make_backbone(vit, "vit_t")


# a checkpoint that the loop resumes from


class Convolved(nn.Module):
    """A backbone whose memory layout matters."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.convolution, self.feature = nn.Conv2d(3, 4, 2), nn.BatchNorm1d(width)


def parts_of(run, backbone: nn.Module = None) -> tuple[Replacements, nn.Module, nn.Module, torch.optim.Optimizer]:
    """The parts as the loop makes them, before it resumes; the optimiser has made a step."""
    parts = Replacements(run)
    parts.settings()
    backbone = parts.make_backbone(lambda name: backbone or Convolved(), "r18")
    criterion = parts.make_criterion(parts.make_margin(), 8, IDENTITIES, 1.0, False)
    optimizer = torch.optim.SGD(
        [{"params": backbone.parameters()}, {"params": criterion.parameters()}], lr=0.1, momentum=0.9
    )
    for parameter in [*backbone.parameters(), *criterion.parameters()]:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return parts, backbone, criterion, optimizer


def save_as_the_loop(run, backbone: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    state = {
        "epoch": 1, "global_step": 6, "state_dict_backbone": backbone.state_dict(),
        "state_dict_softmax_fc": criterion.state_dict(), "state_optimizer": optimizer.state_dict(),
        "state_lr_scheduler": {},
    }  # fmt: skip
    path = Path(run.output) / "checkpoint_gpu_0.pt"
    path.parent.mkdir(exist_ok=True)
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def test_a_checkouts_moments_take_the_memory_layout_of_now(folder, tmp_path):
    run = tiny_run(folder, output=str(tmp_path / "out"))
    saved = save_as_the_loop(run, *parts_of(run)[1:])
    now = replace(run, resume=True, train=TrainOptions(channels_last=True))
    parts, backbone, _, optimizer = parts_of(now)
    parts.make_schedule(optimizer, 0, 12)
    optimizer.load_state_dict(saved["state_optimizer"])
    weight, before = backbone.convolution.weight, saved["state_optimizer"]["state"][0]["momentum_buffer"]
    momentum = optimizer.state[weight]["momentum_buffer"]
    assert torch.equal(momentum, before) and momentum.stride() == weight.stride() != before.stride()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (lambda state: state["state_dict_backbone"].pop("convolution.bias"), "backbone lacks convolution.bias"),
        (lambda state: state["state_dict_softmax_fc"].update(weight=torch.zeros(5, 8)), r"weight is .* \(5, 8\)"),
        (
            lambda state: state["state_optimizer"]["state"][0].update(momentum_buffer=torch.zeros(4)),
            r"convolution\.weight\.momentum_buffer is torch\.float32 \(4,\)",
        ),
        (lambda state: state["state_optimizer"]["param_groups"][0]["params"].pop(), "param_groups"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_other_parts_is_refused_before_the_loop_takes_it(folder, tmp_path, changed, named):
    run = tiny_run(folder, output=str(tmp_path / "out"))
    saved = save_as_the_loop(run, *parts_of(run)[1:])
    changed(saved)
    path = tmp_path / "out" / "checkpoint_gpu_0.pt"
    torch.save(saved, path)
    parts, _, _, optimizer = parts_of(replace(run, resume=True))
    with pytest.raises(CheckpointError, match=rf"checkpoint_gpu_0\.pt: .*{named}.*config\.output"):
        parts.make_schedule(optimizer, 0, 12)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="checkpoint_gpu_0.pt is cut short"):
        parts.make_schedule(optimizer, 0, 12)

"""Checkpoints and steps that are not finite: what is saved, what is kept, and that the advice of the message works."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import same, tiny_model, tiny_run, write_faces

from qgface_plugin.config.options import TrainOptions
from qgface_plugin.training import build
from qgface_plugin.training.step import TrainStep
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import Stopped, TrainingError
from qgface_plugin.utils.torch_files import save

pytestmark = pytest.mark.usefixtures("tiny_network")
OPTIONS = TrainOptions(checkpoint_every=1, max_bad_steps=3)


@pytest.fixture
def run(tmp_path):
    """Twelve steps, saved after each."""
    write_faces(tmp_path / "data")
    return tiny_run(tmp_path, train=OPTIONS)


def bad_steps(monkeypatch, *bad: int, spoil=None) -> None:
    """The steps that are not finite, by their global number; `spoil(step)` happens to the weights after each step."""
    call = TrainStep.__call__

    def struck(self, batch, global_step):
        good = call(self, batch, global_step) and global_step not in bad
        if spoil is not None:
            spoil(self, global_step)
        return good

    monkeypatch.setattr(TrainStep, "__call__", struck)


def saved(folder: Path) -> dict[str, dict]:
    return {p.name: torch.load(p, weights_only=True) for p in sorted((folder / "out").glob("checkpoint_gpu_*.pt"))}


def steps(folder: Path) -> dict[str, int]:
    return {name: state["global_step"] for name, state in saved(folder).items()}


def log(folder: Path) -> str:
    return (folder / "out" / "training.log").read_text()


def test_good_checkpoints_stay_while_steps_are_bad(run, tmp_path, monkeypatch):
    bad_steps(monkeypatch, 6, 7, 8)
    with pytest.raises(TrainingError, match=r"3 steps in a row .* to step 8\. Last good checkpoint: .*_gpu_0\.pt"):
        train(run)
    assert steps(tmp_path)["checkpoint_gpu_0.pt"] == 4  # step 5 was good, but no good one has followed it
    assert steps(tmp_path)["checkpoint_gpu_0.5.diverged.pt"] == 5 and "no good step has followed step 5" in log(
        tmp_path
    )
    model = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert same(model, dict(saved(tmp_path)["checkpoint_gpu_0.pt"]["state_dict_backbone"]))
    monkeypatch.undo()
    monkeypatch.setattr(build, "get_model", tiny_model)
    train(replace(run, resume=True, lr=0.01))  # the advice
    assert "resumed after step 4" in log(tmp_path)
    assert steps(tmp_path) == {"checkpoint_gpu_0.11.pt": 11, "checkpoint_gpu_0.pt": 12}


@pytest.mark.parametrize("keep", [1, 2])
def test_a_run_that_diverges_goes_on_from_what_its_message_names(run, tmp_path, keep):
    """One huge rate: its first update is finite, and saved, and every step from there on is bad."""
    options = replace(OPTIONS, keep_checkpoints=keep, clip_grad=0.0)
    train(replace(run, train=replace(options, max_steps=3)))
    with pytest.raises(
        TrainingError, match=r"Last good checkpoint: .*checkpoint_gpu_0\.pt\. Lower config\.lr"
    ) as raised:
        train(replace(run, train=options, resume=True, lr=1e30))
    assert "config.resume = True" in str(raised.value) and steps(tmp_path)["checkpoint_gpu_0.pt"] == 3
    train(replace(run, train=options, resume=True, lr=0.01))
    assert "resumed after step 3" in log(tmp_path).rpartition("Last good")[2]
    assert steps(tmp_path)["checkpoint_gpu_0.pt"] == 12


def test_without_a_good_checkpoint_the_advice_is_to_start_anew(run, tmp_path, monkeypatch):
    train(replace(run, num_epoch=1))  # an earlier run's checkpoints are not this one's
    bad_steps(monkeypatch, 1, 2, 3)
    with pytest.raises(TrainingError, match=r"none was saved yet\. .* and start anew"):
        train(run)


def test_the_only_checkpoint_is_named_with_a_doubt(run, tmp_path, monkeypatch):
    bad_steps(monkeypatch, 2, 3, 4)
    with pytest.raises(TrainingError, match=r"gpu_0\.pt\. .* no good step has followed it: where it fails too"):
        train(run)
    assert steps(tmp_path) == {"checkpoint_gpu_0.pt": 1}


def test_what_falls_due_in_a_bad_step_is_saved_after_the_next_good_one(run, tmp_path, monkeypatch):
    bad_steps(monkeypatch, 6, 7)  # step 6 ends the epoch
    train(replace(run, train=replace(OPTIONS, checkpoint_every=0, max_steps=8)))
    assert steps(tmp_path) == {"checkpoint_gpu_0.pt": 8}


def test_a_run_that_leaves_in_a_bad_step_goes_on_from_the_last_good_one(run, tmp_path, monkeypatch):
    def leave(step, global_step):
        if global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            step.leaving = True

    bad_steps(monkeypatch, 4, 5, spoil=leave)
    with pytest.raises(Stopped, match=r"saved after step 5; config\.resume = True goes on from step 3, the last good"):
        train(run)
    assert {3, 5} <= set(steps(tmp_path).values())
    assert saved(tmp_path)["checkpoint_gpu_0.pt"]["qgface"]["bad_in_a_row"] == 2
    monkeypatch.undo()
    monkeypatch.setattr(build, "get_model", tiny_model)
    train(replace(run, resume=True))
    assert "resumed after step 3" in log(tmp_path) and steps(tmp_path) == {
        "checkpoint_gpu_0.11.pt": 11, "checkpoint_gpu_0.pt": 12
    }  # fmt: skip


def test_a_streak_in_a_checkpoint_does_not_end_the_run(run, tmp_path, monkeypatch):
    """As earlier versions saved them: one bad step more is one, not one more than the limit allows."""
    train(replace(run, train=replace(OPTIONS, max_steps=3, keep_checkpoints=1)))
    path = tmp_path / "out" / "checkpoint_gpu_0.pt"
    state = torch.load(path, weights_only=True)
    state["qgface"]["bad_in_a_row"] = 2
    save(path, state)
    bad_steps(monkeypatch, 4)
    train(replace(run, resume=True))
    assert "resumed after step 3" in log(tmp_path) and steps(tmp_path)["checkpoint_gpu_0.pt"] == 12


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("where", ["backbone", "centres", "moment"])
def test_what_is_not_finite_is_never_saved(run, tmp_path, monkeypatch, where, value):
    @torch.no_grad()
    def spoil(step, global_step):
        if global_step == 3:
            tensors = {
                "backbone": step.backbone.layer.weight,
                "centres": step.criterion.weight,
                "moment": step.optimizer.state[step.criterion.weight]["momentum_buffer"],
            }
            tensors[where][0, 0] = value

    bad_steps(monkeypatch, 4, 5, 6, spoil=spoil)
    with pytest.raises(TrainingError, match="3 steps in a row"):
        train(run)
    name = {"backbone": "state_dict_backbone.layer.weight", "centres": "state_dict_softmax_fc.weight"}
    name["moment"] = "state_optimizer.4.momentum_buffer"
    assert f"step 3: {name[where]} of rank 0 is not finite: no checkpoint is saved" in log(tmp_path)
    assert steps(tmp_path)["checkpoint_gpu_0.pt"] <= 2


def test_weights_that_are_not_finite_are_no_end_of_a_run(run, tmp_path, monkeypatch):
    def spoil(step, global_step):
        if global_step == 3:
            step.backbone.layer.bias.data[0] = torch.inf

    bad_steps(monkeypatch, spoil=spoil)
    with pytest.raises(TrainingError, match=r"step 3: .*layer\.bias of rank 0 is not finite\. Last good checkpoint: "):
        train(replace(run, train=replace(OPTIONS, max_steps=3)))
    assert steps(tmp_path)["checkpoint_gpu_0.pt"] < 3

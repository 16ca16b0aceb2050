"""The step that reads nothing of its device while it is on its way: it leaves what the other step leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from device_reads import Reads
from steps import CLASSES, QUEUES, TROUBLE, batch, check, history, make_step, state
from tiny import tiny_model, tiny_run, write_faces

from qgface_plugin.config.options import TrainOptions
from qgface_plugin.training import build
from qgface_plugin.training.step import TrainStep
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import DataError, TrainingError


def fused(step: TrainStep, kind=torch.optim.SGD, **options) -> TrainStep:
    parameters = [{"params": step.backbone.parameters()}, {"params": step.criterion.parameters()}]
    step.optimizer = kind(parameters, lr=0.05, fused=True, **options)
    return step


def late(step: TrainStep) -> TrainStep:
    step.late = step.criterion.late = True
    assert step.is_late
    return step


class AskedAtOnce:
    """A late step whose verdict is asked for at once."""

    def __init__(self, queue: str) -> None:
        self.step = late(fused(make_step(queue), momentum=0.9, weight_decay=5e-4))

    def __getattr__(self, name: str):
        return getattr(self.step, name)

    def __call__(self, given, number: int) -> bool:
        assert self.step(given, number) is None
        return self.step.verdict()


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("queue", QUEUES)
def test_a_bad_step_leaves_nothing(queue, trouble):
    check(history(queue, trouble, AskedAtOnce))


@pytest.mark.parametrize("kind, options", [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.AdamW, {})])
def test_a_first_step_that_is_bad_leaves_no_moment(kind, options):
    step, plain = (late(fused(make_step("proxy"), kind, **options)) for _ in range(2))
    step(batch(1, white=True), 1)
    assert step.verdict() is False
    for each in (step, plain):
        each(batch(2), 2)
        assert each.verdict() is True
    for name, value in state(plain)["backbone"].items():
        assert torch.equal(state(step)["backbone"][name], value), name


@pytest.mark.parametrize("queue", ["proxy", "momentum", "batch", "none"])
def test_it_trains_as_the_other_does(queue):
    one, other = fused(make_step(queue), momentum=0.9), late(fused(make_step(queue), momentum=0.9))
    for number in range(1, 7):
        assert one(batch(number), number) and other(batch(number), number) is None
        assert other.verdict() is True
    for part in ("backbone", "criterion"):
        for name, value in state(one)[part].items():
            torch.testing.assert_close(state(other)[part][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_it_reads_nothing(monkeypatch):
    step = late(fused(make_step("proxy"), momentum=0.9))
    for number in (1, 2):
        step(batch(number), number)
    lists, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: lists.append(self) or tolist(self))
    with Reads() as seen:
        step(batch(3), 3)
    assert seen.count == 0 and len(lists) == 1  # the labels of the step before
    assert [step.verdict() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("reason", ["accumulate", "optimiser"])
def test_where_it_cannot_be_late_it_is_not(reason):
    step = make_step("proxy", accumulate=2 if reason == "accumulate" else 1)
    if reason == "accumulate":
        fused(step)
    step.late = True
    assert not step.is_late and step(batch(1), 1) is True


def test_labels_that_do_not_fit_end_the_run_a_step_later():
    step = late(fused(make_step("proxy"), momentum=0.9))
    step(batch(1), 1)
    before, wrong = state(step), batch(2)
    wrong.labels[0] = CLASSES + 3
    step(wrong, 2)
    assert [step.verdict(), step.verdict()] == [True, False]
    for part in ("backbone", "criterion"):
        for name, value in state(step)[part].items():
            assert torch.equal(before[part][name], value), name
    with pytest.raises(DataError, match=f"to {CLASSES + 3}"):
        step(batch(3), 3)


# --- The built-in loop around it: one step behind with what it says, never with what it saves -------------------------


@pytest.fixture
def late_runs(monkeypatch):
    make = build.make_step
    monkeypatch.setattr(build, "get_model", tiny_model)

    def switch(on: bool) -> None:
        monkeypatch.setattr(build, "make_step", (lambda *given: late(make(*given))) if on else make)

    return switch


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]


def test_a_run_says_and_saves_the_same(tmp_path, late_runs):
    found = []
    for name, on in (("read", False), ("late", True)):
        late_runs(on)
        write_faces(tmp_path / name / "data")
        options = TrainOptions(checkpoint_every=4)
        train(tiny_run(tmp_path / name, val_targets=("dev",), frequent=2, verbose=5, train=options))
        found.append((lines(tmp_path / name), torch.load(tmp_path / name / "out" / "model.pt", weights_only=True)))
    (read, weights), (other, late_weights) = found
    assert [(x["kind"], x["step"]) for x in read] == [(x["kind"], x["step"]) for x in other]
    for one, two in zip(read, other, strict=True):
        for key in ("loss", "classification", "contrastive", "norm_mean", "lq_share_pair", "accuracy", "lr", "epoch"):
            assert (key in one) == (key in two) and one.get(key, 0.0) == pytest.approx(two.get(key, 0.0), rel=1e-4), key
    for name, value in weights.items():
        torch.testing.assert_close(late_weights[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_late_run_resumes_to_the_last_bit(tmp_path, late_runs):
    late_runs(True)
    weights = []
    for name, stops in (("whole", [None]), ("parts", [5, None])):
        write_faces(tmp_path / name / "data")
        for number, stop in enumerate(stops):
            run = tiny_run(tmp_path / name, resume=bool(number), train=TrainOptions(max_steps=stop))
            train(run)
        weights.append(torch.load(tmp_path / name / "out" / "checkpoint_gpu_0.pt", weights_only=True))
    whole, parts = weights
    for part in ("state_dict_backbone", "state_dict_softmax_fc"):
        for name, value in whole[part].items():
            assert torch.equal(value, parts[part][name]), name


def test_too_many_bad_steps_end_the_run_and_name_the_good_checkpoint(tmp_path, late_runs, monkeypatch):
    late_runs(True)
    write_faces(tmp_path / "data")
    call = TrainStep.__call__

    def spoilt(self, given, number):
        if number >= 6:
            self.criterion.weight.data[0] = float("nan")
        return call(self, given, number)

    monkeypatch.setattr(TrainStep, "__call__", spoilt)
    run = tiny_run(tmp_path, train=TrainOptions(checkpoint_every=1, max_bad_steps=3))
    with pytest.raises(TrainingError, match=r"3 steps in a row .* to step 8\. Last good checkpoint"):
        train(run)
    saved = torch.load(tmp_path / "out" / "checkpoint_gpu_0.pt", weights_only=True)
    assert saved["global_step"] == 4 and saved["state_dict_softmax_fc"]["weight"].isfinite().all()

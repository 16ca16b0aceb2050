"""What a checkout's loop saves: only what is fit to go on from, whole, and with the names of the optimiser's state."""

from __future__ import annotations

import builtins
import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkouts import MINI, ROOT, run, write_recipe
from tiny import write_faces
from torch import nn

from qgface_plugin.arcface_torch.replacements import Replacements
from qgface_plugin.arcface_torch.saving import checked_saves
from qgface_plugin.config.run import Run
from qgface_plugin.utils.errors import CheckpointError, TrainingError
from qgface_plugin.utils.torch_files import load

FAULT = """
import torch
from qgface_plugin.loss.partial_fc import QGPartialFC
def at_call(owner, name, number, what):
    original, calls = getattr(owner, name), []
    def struck(self, *arguments, **options):
        calls.append(1)
        return what(original, self, *arguments, **options) if len(calls) == number else original(self, *arguments)
    setattr(owner, name, struck)
def endless(original, self, *arguments):
    return original(self, *arguments) * float("inf")
def spoilt(original, self, *arguments):
    original(self, *arguments)
    self.param_groups[0]["params"][0].data.fill_(float("inf"))
config.frequent = 1
"""
BAD_LOSS = FAULT + "at_call(QGPartialFC, 'forward', {number}, endless)\n"  # 6 steps an epoch
BAD_WEIGHTS = FAULT + "at_call(torch.optim.SGD, 'step', {number}, spoilt)\n"


def parts(folder: Path, **changes) -> SimpleNamespace:
    settings = dict(
        run=SimpleNamespace(output=str(folder)), backbone=None, optimizer=None,
        criterion=SimpleNamespace(bad_in_a_row=0, class_start=0, num_local=3),
        checkpoint=lambda: folder / "checkpoint_gpu_0.pt", in_the_last_epoch=lambda: False,
    )  # fmt: skip
    return SimpleNamespace(**{**settings, **changes})


def checkpoint(value: float = 1.0, epoch: int = 1) -> dict:
    weights = {"weight": torch.full((2, 2), value)}
    state = {"state": {0: {"momentum_buffer": torch.zeros(2, 2)}}, "param_groups": [{"params": [0]}]}
    return {
        "epoch": epoch, "global_step": 6 * epoch, "state_dict_backbone": weights, "state_dict_softmax_fc": {},
        "state_optimizer": state, "state_lr_scheduler": {},
    }  # fmt: skip


def test_what_is_fit_is_saved_and_says_whose_it_is(tmp_path):
    original = torch.save
    with checked_saves(parts(tmp_path)):
        torch.save(checkpoint(), str(tmp_path / "checkpoint_gpu_0.pt"))
        torch.save({"weight": torch.ones(2)}, tmp_path / "model.pt")
        torch.save([1, 2], tmp_path / "other.pt")
        torch.save({"weight": torch.tensor(torch.inf)}, tmp_path.parent / "elsewhere.pt")  # no file of the run
    assert torch.save is original
    saved = load(tmp_path / "checkpoint_gpu_0.pt")
    assert saved["qgface_checkout"] == {"rank": 0, "ranks": 1, "classes": [0, 3]} and saved["epoch"] == 1
    assert torch.load(tmp_path / "model.pt")["weight"].tolist() == [1, 1]
    assert torch.load(tmp_path / "other.pt") == [1, 2] and (tmp_path.parent / "elsewhere.pt").exists()


@pytest.mark.parametrize("name", ["checkpoint_gpu_0.pt", "model.pt"])
def test_weights_that_are_not_finite_replace_nothing(tmp_path, caplog, name):
    path = tmp_path / name
    good, bad = checkpoint(), checkpoint(torch.inf, 2)
    if name == "model.pt":
        good, bad = good["state_dict_backbone"], bad["state_dict_backbone"]
    with checked_saves(parts(tmp_path)):
        torch.save(good, path)
        before = path.read_bytes()
        torch.save(bad, path)
        assert "state_dict_backbone.weight" in caplog.text and "stays as it was" in caplog.text
    with (
        checked_saves(parts(tmp_path, in_the_last_epoch=lambda: True)),
        pytest.raises(TrainingError, match="Last good"),
    ):
        torch.save(bad, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [name]


def test_a_bad_step_at_an_epochs_end_is_not_saved_but_at_the_runs_end(tmp_path, caplog):
    streak = SimpleNamespace(bad_in_a_row=2, class_start=0, num_local=3)
    path = tmp_path / "checkpoint_gpu_0.pt"
    with checked_saves(parts(tmp_path, criterion=streak)):
        torch.save(checkpoint(), path)
    assert not path.exists() and "the epoch ends in a step that is not finite" in caplog.text
    with checked_saves(parts(tmp_path, criterion=streak, in_the_last_epoch=lambda: True)):
        torch.save(checkpoint(), path)
    assert load(path)["epoch"] == 1


def test_a_full_disk_leaves_the_checkpoint_of_before(tmp_path, monkeypatch):
    path, real = tmp_path / "checkpoint_gpu_0.pt", builtins.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with checked_saves(parts(tmp_path)):
        torch.save(checkpoint(), path)
        before = path.read_bytes()

        def full(name, mode="r", *a, **k):
            file = real(name, mode, *a, **k)
            return Full(file) if "+" in mode else file

        monkeypatch.setattr(builtins, "open", full)
        with pytest.raises(TrainingError, match="No space left on device; the one saved before is whole"):
            torch.save(checkpoint(epoch=2), path)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("user")
    write_faces(path / "data")
    return path


@pytest.mark.parametrize("number", [6, pytest.param(12, marks=pytest.mark.long)])
def test_a_run_whose_epoch_ends_in_a_bad_step(folder, number):
    name = f"bad_loss_{number}"
    done = run(
        ROOT / "train_v2.py", write_recipe(folder, name, BAD_LOSS.format(number=number)), cwd=folder,
        ARCFACE_TORCH=str(MINI),
    )  # fmt: skip
    output = folder / "work_dirs" / name
    assert done.returncode == 0, done.stderr
    saved = load(output / "checkpoint_gpu_0.pt")
    assert saved["epoch"] == 2 and saved["qgface_checkout"]["names"][:2] == [
        "backbone.layer.weight",
        "backbone.layer.bias",
    ]
    log = (output / "training.log").read_text()
    assert ("there is no" in log and "the epoch ends in a step" in log) is (number == 6)


@pytest.mark.long
def test_a_run_that_ends_with_infinite_weights_keeps_the_good_ones_and_fails(folder):
    recipe = write_recipe(folder, "bad_weights", BAD_WEIGHTS.format(number=12))
    done = run(ROOT / "train_v2.py", recipe, cwd=folder, ARCFACE_TORCH=str(MINI))
    output = folder / "work_dirs" / "bad_weights"
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "is not finite, so it is not saved" in done.stderr and "set config.resume = True" in done.stderr
    assert load(output / "checkpoint_gpu_0.pt")["epoch"] == 1
    assert all(value.isfinite().all() for value in torch.load(output / "model.pt").values())
    resumed = write_recipe(folder, "bad_weights", "config.resume = True\nconfig.frequent = 1\n")
    done = run(ROOT / "train_v2.py", resumed, cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0 and load(output / "checkpoint_gpu_0.pt")["epoch"] == 2, done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rank=1), "it is of rank 1, and this is rank 0"),
        (dict(ranks=2), r"it is of a run on 2 rank\(s\), and this one has 1"),
        (dict(names=["backbone.layer.weight"]), "is of other parameters"),
        (dict(rank="0"), "qgface_checkout is not what was saved"),
        (dict(names=[1]), "names are not the names of parameters"),
    ],
)
def test_a_checkpoint_of_another_rank_or_network_is_refused(folder, change, message):
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)

    replacements = Replacements(Run(output=str(folder / "whose"), embedding_size=2, num_classes=3))
    backbone = Backbone()
    criterion = replacements.make_criterion(replacements.make_margin(), 2, 3, 1.0, False)
    optimizer = torch.optim.SGD([{"params": m.parameters()} for m in (backbone, criterion)], lr=0.1, momentum=0.9)
    said = {"rank": 0, "ranks": 1, "classes": [0, 3], "names": ["backbone.layer.weight", "criterion.weight"]}
    state = {
        "epoch": 1, "global_step": 6, "state_dict_backbone": backbone.state_dict(),
        "state_dict_softmax_fc": criterion.state_dict(), "state_optimizer": optimizer.state_dict(),
        "state_lr_scheduler": {}, "qgface_checkout": said,
    }  # fmt: skip
    path = replacements.checkpoint()
    path.parent.mkdir(exist_ok=True)
    torch.save(state, path)
    replacements._resumes = True
    replacements._check_checkpoint(backbone, criterion, optimizer)
    torch.save({**state, "qgface_checkout": {**said, **change}}, path)
    with pytest.raises(CheckpointError, match=message):
        replacements._check_checkpoint(backbone, criterion, optimizer)

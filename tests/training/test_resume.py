"""Resuming: after any step, the losses, the log and the state at the end are those of the undisturbed run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TIMES, same, tiny_model, tiny_run, write_faces

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import DataOptions, FinetuneOptions, TrainOptions, VerifyOptions
from qgface_plugin.data.pair_dataset import PairDataset
from qgface_plugin.data.sampler import EpochSampler
from qgface_plugin.loss.partial_fc import QGPartialFC
from qgface_plugin.models.weights import export_backbone
from qgface_plugin.training import verification
from qgface_plugin.training.checkpoints import latest, store
from qgface_plugin.training.step import TrainStep
from qgface_plugin.training.trainer import train
from qgface_plugin.utils import torch_files
from qgface_plugin.utils.errors import CheckpointError, Stopped
from qgface_plugin.utils.torch_files import save

pytestmark = pytest.mark.usefixtures("tiny_network")
EVERY = TrainOptions(checkpoint_every=1)


class Crash(BaseException):
    """What no code handles, like the end of a process."""


def lines(folder: Path, out: str) -> list[dict]:
    """metrics.jsonl without what the clock says."""
    text = (folder / out / "metrics.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in text.splitlines()]


def end(folder: Path, out: str) -> dict:
    """The last checkpoint, without what names the run."""
    saved = torch.load(folder / out / "checkpoint_gpu_0.pt", weights_only=True)
    for key in ("recipe", "run_id"):
        del saved["qgface"][key]
    return saved


def run_in_pieces(run, monkeypatch, happen, errors) -> int:
    """Train, `happen(call)` in every forward pass of every start, and start again until the run ends. Starts needed."""
    forward, starts = QGPartialFC.forward, 0

    def struck(self, *arguments):
        self.calls = getattr(self, "calls", 0) + 1
        happen(self.calls)
        return forward(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(QGPartialFC, "forward", struck)
        while True:
            starts += 1
            torch.manual_seed(starts)  # what a new process finds is nothing to rely on
            try:
                train(replace(run, resume=starts > 1))
                return starts
            except errors:
                assert starts < 40


def crash_at_the_second_step(call: int) -> None:
    if call == 2:
        raise Crash


def sigterm(call: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    "changes",
    [
        dict(qgface=QGFaceConfig(queue="proxy"), sample_rate=0.5, val_targets=("dev",), verbose=3),
        dict(qgface=QGFaceConfig(queue="momentum"), gradient_acc=2, optimizer="adamw", lr=0.003),
        dict(qgface=QGFaceConfig(queue="batch"), num_workers=2),
        dict(
            init_from="start.pt",
            qgface=QGFaceConfig(queue="teacher", teacher_weight=0.5),
            val_targets=("dev",),
            finetune=FinetuneOptions(init_centres="means", frozen_epochs=0.6, backbone_lr=0.02, freeze=("layer.bias",)),
            verify=VerifyOptions(before=True, degraded=True, keep_best="mixed", max_regression=1.0),
        ),
        dict(
            init_from="start.pt",
            finetune=FinetuneOptions(batchnorm="frozen"),
            num_epoch=2,
            qgface=QGFaceConfig(queue="none", teacher_weight=1.0, classification_weight=0.0),
        ),
        pytest.param(
            dict(qgface=QGFaceConfig(queue="none", stats_scope="rank"), degradation=None, sample_rate=0.3),
            marks=pytest.mark.long,
        ),
        pytest.param(
            dict(qgface=QGFaceConfig(queue="proxy", queue_size=40), gradient_acc=3, sample_rate=0.5),
            marks=pytest.mark.long,
        ),
    ],
    ids=[
        "proxy, sampled",
        "momentum, accumulated",
        "batch, workers",
        "fine-tuning with a teacher",
        "fine-tuning without classes",
        "single views",
        "epoch ends in between",
    ],
)
def test_stopped_after_every_step(folder, monkeypatch, changes):
    """The process ends in every second step of its life, so it resumes after each step of the run."""
    if changes.get("init_from"):
        export_backbone(folder / "start.pt", tiny_model("", 8, True).state_dict())
        changes = changes | {"init_from": str(folder / "start.pt")}
    run = tiny_run(folder, batch_size=12, frequent=5, warmup_epoch=1, **changes)  # 8 steps
    train(run)
    pieces = replace(run, output=str(folder / "pieces"), train=EVERY)
    steps = end(folder, "out")["global_step"]
    assert steps == 8 and run_in_pieces(pieces, monkeypatch, crash_at_the_second_step, Crash) == steps
    assert lines(folder, "pieces") == lines(folder, "out") and len(lines(folder, "out")) >= 2
    assert same(end(folder, "pieces"), end(folder, "out"))
    model = [torch.load(folder / out / "model.pt", weights_only=True) for out in ("out", "pieces")]
    assert same(*model) and same(model[0], dict(end(folder, "out")["state_dict_backbone"]))


def test_sigterm_in_every_step(folder, monkeypatch):
    """The run leaves after each step, with a checkpoint and without being told how often to save."""
    run = tiny_run(folder, batch_size=24, frequent=3)
    train(run)
    assert run_in_pieces(replace(run, output=str(folder / "pieces")), monkeypatch, sigterm, Stopped) == 4
    assert lines(folder, "pieces") == lines(folder, "out") and same(end(folder, "pieces"), end(folder, "out"))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# which checkpoint


def log(folder: Path, out: str = "out") -> str:
    return (folder / out / "training.log").read_text()


def test_a_start_by_torchrun_goes_on_with_its_own_run_only(folder, monkeypatch):
    run = tiny_run(folder, batch_size=24)
    train(run)  # an earlier run
    crashed = replace(run, lr=0.01, train=TrainOptions(checkpoint_every=1))

    def crash(self, batch, global_step):
        if global_step == at:
            raise Crash
        return step(self, batch, global_step)

    step = TrainStep.__call__
    monkeypatch.setattr(TrainStep, "__call__", crash)
    at = 1
    with pytest.raises(Crash):
        train(crashed)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    at = 3
    with pytest.raises(Crash):
        train(crashed)
    assert "started this run again (1), but" in log(folder) and "this run starts anew" in log(folder)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    at = None
    train(crashed)
    assert "torchrun has started this run again (2): resumed after step 2, in epoch 1" in log(folder)
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")
    train(replace(crashed, output=str(folder / "new")))
    assert lines(folder, "out") == lines(folder, "new") and len(lines(folder, "new")) == 4


def test_damaged_checkpoints_are_passed_over(folder):
    run = tiny_run(folder, batch_size=24, train=TrainOptions(checkpoint_every=1, keep_checkpoints=4))
    train(run)
    out = folder / "out"
    (out / "checkpoint_gpu_0.pt").write_bytes((out / "checkpoint_gpu_0.pt").read_bytes()[:-100])
    path = out / "checkpoint_gpu_0.3.pt"
    weight = torch.load(path, weights_only=True)["state_dict_backbone"]["layer.weight"].numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(weight, bytes(len(weight))))  # its head is as it was
    before = lines(folder, "out")
    train(replace(run, resume=True))
    assert "checkpoint_gpu_0.pt is cut short" in log(folder)
    assert "step 3 is passed over for the checkpoint before it" in log(folder)
    assert "resumed after step 2, in epoch 1" in log(folder) and lines(folder, "out") == before
    for path in out.glob("checkpoint*"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no usable checkpoint in .*gpu_0\.1\.pt is damaged.*gpu_0\.pt is"):
        train(replace(run, resume=True))


def test_a_set_with_a_missing_rank_is_no_checkpoint(folder):
    run = tiny_run(folder, batch_size=24, train=TrainOptions(keep_checkpoints=1))
    train(run)
    path = folder / "out" / "checkpoint_gpu_0.pt"
    saved = torch.load(path, weights_only=True)
    saved["qgface"]["world_size"] = 3
    save(path, saved)
    with pytest.raises(CheckpointError, match=r"step 4 of 3 rank\(s\) lacks rank\(s\) 1, 2\."):
        train(replace(run, resume=True))


# a recipe that has changed


def test_another_global_batch_goes_on_at_the_same_image(folder, monkeypatch):
    seen = []
    run = tiny_run(folder, batch_size=8, num_epoch=1)
    train(replace(run, train=TrainOptions(max_steps=3)))
    getitems = PairDataset.__getitems__

    def watched(self, places):
        seen.extend(index for _, index in places)
        return getitems(self, places)

    monkeypatch.setattr(PairDataset, "__getitems__", watched)
    train(replace(run, batch_size=6, resume=True))
    order = [index for _, index in EpochSampler(48, 8, 0, 1, run.seed)]
    assert seen == order[24:]  # of 48 images 24 are done; 4 steps of 6 are left
    assert [line["step"] for line in lines(folder, "out")] == [1, 2, 3, 4, 5, 6, 7]
    assert lines(folder, "out")[-1]["lr"] == pytest.approx(0.05 / 8)  # the schedule counts steps of the new size
    assert "the global batch was 8 images and is 6 now" in log(folder)


def test_the_recipes_rate_counts(folder):
    run = tiny_run(folder, batch_size=24)
    train(replace(run, train=TrainOptions(max_steps=2)))
    train(replace(run, lr=0.01, weight_decay=0.1, resume=True))
    assert [line["lr"] for line in lines(folder, "out")] == pytest.approx([0.05, 0.0375, 0.005, 0.0025])
    groups = end(folder, "out")["state_optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.1]
    assert "the recipe has changed since the checkpoint: lr: 0.05 in the checkpoint, 0.01 in the recipe" in log(folder)


def test_what_an_interrupted_verification_owes_is_made_up_for(folder, monkeypatch):
    run = tiny_run(folder, batch_size=24, val_targets=("dev",), num_epoch=1)
    with monkeypatch.context() as patch:
        patch.setattr(verification, "verify", lambda *a, **k: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            train(run)
    results = train(replace(run, resume=True))
    assert results["dev"]["accuracy"] > 0 and [line["kind"] for line in lines(folder, "out")][-1] == "verification"
    again = train(replace(run, resume=True))  # nothing is left to do, and nothing is done twice
    assert again == json.loads(json.dumps(results)) and len(lines(folder, "out")) == 3


def test_a_refused_resume_changes_nothing(folder):
    run = tiny_run(folder, batch_size=24)
    train(run)
    before = holds(folder)
    for other in (replace(run, network="r18"), replace(run, seed=4), replace(run, num_epoch=3, sample_rate=0.5)):
        with pytest.raises(CheckpointError, match="is of another recipe"):
            train(replace(other, resume=True))
        assert holds(folder) == before
    (folder / "out" / "run.json").unlink()
    (folder / "out" / "checkpoint_gpu_0.pt").write_bytes(b"")
    (folder / "out" / "checkpoint_gpu_0.2.pt").unlink()
    before = holds(folder)
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        train(replace(run, resume=True))
    assert holds(folder) == before and "run.json" not in before


# files that cannot be read


def unreadable(monkeypatch, owner, name: str, file: str) -> None:
    """`owner.name` gives an I/O error on files of that name, as a disk with a bad sector does."""
    original = getattr(owner, name)

    def struck(first, *arguments, **options):
        if str(getattr(first, "name", first)).endswith(file):
            raise OSError(errno.EIO, os.strerror(errno.EIO), file)
        return original(first, *arguments, **options)

    monkeypatch.setattr(owner, name, struck)


@pytest.mark.parametrize("where", ["digest", "load", "peek", "open", "folder", "pipe"])
def test_the_set_before_one_that_cannot_be_read_is_used(folder, monkeypatch, where):
    run = tiny_run(folder, batch_size=24, train=EVERY)
    train(run)
    newest = folder / "out" / "checkpoint_gpu_0.pt"
    if where in ("folder", "pipe"):
        newest.unlink()
        newest.mkdir() if where == "folder" else os.mkfifo(newest)
        with pytest.raises(CheckpointError, match="is a folder, not" if where == "folder" else "or pipe, not"):
            torch_files.load(newest)
    elif where == "open":
        monkeypatch.setattr(torch_files, "open", lambda path, mode: _open(path, mode, newest), raising=False)
    else:
        owner, name = {"digest": (torch_files, "_digest"), "load": (latest, "load"), "peek": (store, "peek")}[where]
        unreadable(monkeypatch, owner, name, "checkpoint_gpu_0.pt")
    last = replace(run, resume=True, train=TrainOptions(max_steps=3))
    train(last)
    assert "nothing to do: step 3 of 3 is done" in log(folder)
    train(replace(last, train=EVERY))  # and it is replaced by the next one
    assert end(folder, "out")["global_step"] == 4
    reason = {"folder": "is a folder, not a file", "pipe": "is a device or pipe, not a file"}
    assert reason.get(where, "Input/output error") in log(folder)


def _open(path, mode, broken):
    if str(path) == str(broken):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return open(path, mode)


def test_a_file_that_only_its_own_rank_cannot_read_is_passed_over(folder, monkeypatch):
    """Rank 0 lists it as whole; the rank that it belongs to does not see it."""
    run = tiny_run(folder, batch_size=24, train=EVERY)
    train(run)
    calls = []

    def struck(path):
        calls.append(path)
        if path.name == "checkpoint_gpu_0.pt" and calls.count(path) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return torch_files.peek(path)

    monkeypatch.setattr(store, "peek", struck)
    train(replace(run, resume=True, train=TrainOptions(max_steps=3)))
    assert "gpu_0.pt cannot be read: Input/output error; step 4 is passed over" in log(folder)
    assert "nothing to do: step 3 of 3 is done" in log(folder)


def test_a_folder_that_cannot_be_listed_is_refused(folder, monkeypatch):
    run = tiny_run(folder, batch_size=24)
    train(run)
    unreadable(monkeypatch, store.os, "listdir", "out")
    with pytest.raises(CheckpointError, match="out cannot be read: Input/output error"):
        train(replace(run, resume=True))


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"id": 3}', "[]", "{"])
def test_a_run_json_that_names_no_run_is_passed_over(folder, text):
    run = tiny_run(folder, batch_size=24, train=TrainOptions(max_steps=2))
    train(run)
    (folder / "out" / "run.json").write_text(text)
    train(replace(run, resume=True, train=TrainOptions(max_steps=3)))
    assert "resumed after step 2" in log(folder)
    saved = torch.load(folder / "out" / "checkpoint_gpu_0.pt", weights_only=True)
    assert json.loads((folder / "out" / "run.json").read_text())["id"] == saved["qgface"]["run_id"]


# recipes of other versions


def with_recipe(folder: Path, change) -> None:
    path = folder / "out" / "checkpoint_gpu_0.pt"
    saved = torch.load(path, weights_only=True)
    change(saved["qgface"]["recipe"])
    save(path, saved)


def test_keys_that_a_checkpoints_recipe_lacks_are_their_defaults(folder):
    run = tiny_run(folder, batch_size=24, train=TrainOptions(max_steps=2))
    train(run)

    def older(recipe):
        del recipe["qgface"]["queue_rescale"], recipe["qgface"]["curricular_momentum"], recipe["train"]["features_bias"]
        del recipe["data"], recipe["degradation"]["steps"], recipe["notes"]

    with_recipe(folder, older)
    train(replace(run, resume=True, train=TrainOptions(max_steps=3)))
    text = log(folder)
    assert "resumed after step 2" in text
    changes = [line.rpartition("checkpoint: ")[2] for line in text.splitlines() if "recipe has changed" in line]
    assert changes == ["train.max_steps: 2 in the checkpoint, 3 in the recipe"]
    with_recipe(folder, older)
    with pytest.raises(CheckpointError, match=r"qgface\.queue_rescale: False in the checkpoint, True in the recipe"):
        train(replace(run, resume=True, qgface=QGFaceConfig(queue_rescale=True)))


def test_keys_that_are_gone_are_named(folder):
    run = tiny_run(folder, batch_size=24, train=TrainOptions(max_steps=2))
    train(run)
    with_recipe(folder, lambda recipe: (recipe.update(past=1), recipe["qgface"].update(older="a")))
    train(replace(run, resume=True, train=TrainOptions(max_steps=3)))
    for line in ("past = 1", "qgface.older = 'a'"):
        assert f"WARNING: the checkpoint's recipe has a key that this version does not have: {line}" in log(folder)


def test_what_belongs_to_a_start_is_no_change_of_the_recipe(folder):
    run = tiny_run(folder, batch_size=24, train=TrainOptions(max_steps=2))
    train(run)
    shutil.move(folder / "out", folder / "moved")
    train(replace(run, resume=True, output=str(folder / "moved"), name="another", notes="again", lr=0.01))
    changes = [line for line in log(folder, "moved").splitlines() if "recipe has changed" in line]
    assert len(changes) == 1 and changes[0].endswith("lr: 0.05 in the checkpoint, 0.01 in the recipe")


# a run that has come to its end


def holds(folder: Path, out: str = "out") -> dict[str, bytes]:
    """What is in a run's folder, by name; training.log grows with every start."""
    files = [path for path in (folder / out).iterdir() if path.is_file() and path.name != "training.log"]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("again", ["resume", "torchrun", "lowered"])
def test_a_finished_run_of_max_steps_trains_no_step_more(folder, monkeypatch, again):
    """Started anew by hand, by torchrun after a failure at the very end, and with a lower `max_steps`."""
    run = tiny_run(folder, batch_size=24, val_targets=("dev",), num_epoch=3, train=TrainOptions(max_steps=3))
    results = train(run)
    before = holds(folder)
    if again == "torchrun":
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    else:
        run = replace(run, resume=True, train=TrainOptions(max_steps=3 if again == "resume" else 2))
    monkeypatch.setattr(TrainStep, "__call__", lambda *arguments: pytest.fail("a step is trained"))
    found = train(run)
    assert found == json.loads(json.dumps(results)) and found["dev"]["accuracy"] > 0
    assert f"nothing to do: step 3 of {run.train.max_steps} is done" in log(folder)
    assert "[dev][3]Accuracy-Flip" in log(folder).split("nothing to do")[1]
    after = holds(folder)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if name != "recipe.json")


def test_a_run_that_is_given_more_steps_goes_on(folder):
    run = tiny_run(folder, batch_size=24, num_epoch=3, train=TrainOptions(max_steps=3))
    train(run)
    train(replace(run, resume=True, train=TrainOptions(max_steps=5)))
    assert end(folder, "out")["global_step"] == 5 and [line["step"] for line in lines(folder, "out")] == [1, 2, 3, 4, 5]


def test_several_label_spaces_resume_exactly_and_in_their_order_only(tmp_path):
    for name in ("a", "b"):
        write_faces(tmp_path / name, identities=3)
    folders, separate = tuple(str(tmp_path / name) for name in "ab"), DataOptions(label_spaces="separate")
    asked = dict(rec=folders, data=separate)
    train(tiny_run(tmp_path, **asked, output=str(tmp_path / "straight")))
    train(tiny_run(tmp_path, **asked, train=TrainOptions(max_steps=5, checkpoint_every=5)))
    train(tiny_run(tmp_path, **asked, resume=True))
    straight, resumed = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("straight", "out"))
    losses = [[json.loads(line)["loss"] for line in lines] for lines in (straight, resumed)]
    assert len(losses[0]) == 12 and losses[0] == losses[1]
    saved = torch.load(tmp_path / "out" / "checkpoint_gpu_0.pt", weights_only=True)
    assert len(saved["state_dict_softmax_fc"]["weight"]) == 6
    with pytest.raises(CheckpointError, match=r"rec: \['a', 'b'\] in the checkpoint, \['b', 'a'\] in the recipe"):
        train(tiny_run(tmp_path, rec=folders[::-1], data=separate, resume=True))
    with pytest.raises(CheckpointError, match="num_classes: 6 in the checkpoint, 3 in the recipe"):
        train(tiny_run(tmp_path, rec=folders, resume=True))

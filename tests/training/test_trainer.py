"""The built-in loop on a tiny data set: what it writes, that it learns, that it resumes exactly, that it refuses."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_model, tiny_run, write_faces

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import DataOptions, TrainOptions
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.loss.partial_fc import QGPartialFC
from qgface_plugin.training.step import TrainStep
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import CheckpointError, ConfigError, CutError, DataError, TrainingError

pytestmark = pytest.mark.usefixtures("tiny_network")


def lines(folder, kind="train", out="out"):
    text = (folder / out / "metrics.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]


def losses(folder, out="out"):
    return [line["loss"] for line in lines(folder, out=out)]


def test_run_writes_what_design_says_and_learns(folder):
    options = TrainOptions(schedule="step", milestones=(4,), pair_grid_every=5)
    results = train(tiny_run(folder, num_epoch=6, val_targets=("dev",), train=options))
    out = folder / "out"
    written = {path.name for path in out.iterdir()}
    assert written >= {"model.pt", "checkpoint_gpu_0.pt", "training.log", "tensorboard", "recipe.json", "metrics.jsonl"}
    loss = losses(folder)
    assert len(loss) == 36 and sum(loss[-6:]) < 0.5 * sum(loss[:6])
    assert results["dev"]["accuracy"] > 0.8
    assert len(lines(folder, "verification")) == 6
    terms = (
        "classification contrastive lq_share_view lq_share_pair norm_order norm_mean norm_std queue_fill queue_drift"
    )
    assert lines(folder)[0].keys() >= {*terms.split(), "lr", "samples_per_second"}
    assert all(0 <= line["data_stall"] <= 1 for line in lines(folder)[1:])
    assert lines(folder)[-1]["lr"] == pytest.approx(0.005)
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["num_classes"] == 6 and recipe["num_image"] == 48

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert (
        "quality/pairs" in tags["images"]
        and "quality/u" in tags["histograms"]
        and {"loss/loss", "queue/queue_drift", "verification/dev"} <= set(tags["scalars"])
    )


def test_model_pt_is_the_backbone(folder):
    train(tiny_run(folder))
    backbone = tiny_model("mbf", 8, True)
    backbone.load_state_dict(torch.load(folder / "out" / "model.pt", weights_only=True))
    saved = torch.load(folder / "out" / "checkpoint_gpu_0.pt", weights_only=True)
    assert saved["state_dict_softmax_fc"]["weight"].shape == (6, 8)
    assert torch.equal(saved["state_dict_backbone"]["layer.weight"], backbone.layer.weight)


def test_workers_do_not_change_the_losses(folder):
    train(tiny_run(folder))
    train(tiny_run(folder, num_workers=2, output=str(folder / "again")))
    assert losses(folder) == losses(folder, "again")


@pytest.mark.parametrize(
    "qgface",
    [
        QGFaceConfig.from_mapping({"authors": True}),
        QGFaceConfig(margin="arcface", straight_through=True),
        QGFaceConfig(queue="none", classification_gate="none"),
    ],
)
def test_other_methods_train(folder, qgface):
    train(tiny_run(folder, qgface=qgface, optimizer="adamw", lr=0.003))
    assert all(torch.isfinite(torch.tensor(losses(folder))))


def test_single_views_train(folder):
    train(tiny_run(folder, qgface=QGFaceConfig(queue="none", classification_gate="none"), degradation=None))
    assert len(losses(folder)) == 12 and "norm_order" not in lines(folder)[0]


def test_gradient_accumulation_updates_every_second_step(folder, monkeypatch):
    seen = []
    forward = QGPartialFC.forward
    monkeypatch.setattr(
        QGPartialFC, "forward", lambda self, *a: seen.append(self.weight.sum().item()) or forward(self, *a)
    )
    train(tiny_run(folder, gradient_acc=2, num_epoch=1))
    assert [a == b for a, b in zip(seen, seen[1:], strict=False)] == [True, False, True, False, True]


def test_corrupt_image_stops_or_is_skipped(tmp_path):
    write_faces(tmp_path / "data", corrupt=5)
    with pytest.raises(DataError, match=r"train\.rec key 5"):
        train(tiny_run(tmp_path, num_epoch=1))
    train(tiny_run(tmp_path, num_epoch=1, data=DataOptions(on_corrupt="skip")))
    assert "1 corrupt images were skipped" in (tmp_path / "out" / "training.log").read_text()


def test_surplus_bytes_are_one_line_in_the_log(folder, tmp_path, monkeypatch):
    read = FaceRecords.read

    def without_end(self, index):
        encoded, label = read(self, index)
        return (encoded[:-2] if index == 5 else encoded), label

    monkeypatch.setattr(FaceRecords, "read", without_end)
    train(tiny_run(folder, output=str(tmp_path / "out"), batch_size=len(FaceRecords(folder / "data"))))
    log = (tmp_path / "out" / "training.log").read_text()
    assert log.count("1 JPEG carries surplus bytes or lacks its end marker") == log.count("surplus bytes") == 1


def test_counts_that_differ_from_the_data(folder):
    with pytest.raises(ConfigError, match=r"config\.num_classes is 7, but .* has 6"):
        train(tiny_run(folder, num_classes=7))


def nan_from(monkeypatch, first, last=10**9):
    """The criterion's loss is NaN at its calls first..last."""
    forward, calls = QGPartialFC.forward, []

    def broken(self, *arguments):
        calls.append(1)
        loss = forward(self, *arguments)
        return loss * float("nan") if first <= len(calls) <= last else loss

    monkeypatch.setattr(QGPartialFC, "forward", broken)


def test_a_few_bad_steps_are_skipped(folder, monkeypatch):
    nan_from(monkeypatch, 3, 4)
    train(tiny_run(folder, num_epoch=1))
    assert [line["step"] for line in lines(folder)] == [1, 2, 5, 6]
    assert (
        "step 4: loss or gradient is not finite; the step is skipped (2 in a row)"
        in (folder / "out" / "training.log").read_text()
    )


def test_too_many_bad_steps_stop_and_name_the_checkpoint(folder, monkeypatch):
    nan_from(monkeypatch, 8)
    with pytest.raises(
        TrainingError, match=r"3 steps in a row .* to step 10\. Last good checkpoint: .*checkpoint_gpu_0\.pt"
    ):
        train(tiny_run(folder, train=TrainOptions(max_bad_steps=3)))


def test_resume_refuses_another_recipe(folder):
    run = tiny_run(folder, num_epoch=1)
    train(run)
    other = replace(run, resume=True, qgface=QGFaceConfig(b=0.3))
    with pytest.raises(CheckpointError, match=r"qgface\.b: 0\.2 in the checkpoint, 0\.3 in the recipe"):
        train(other)


def test_resume_refuses_a_foreign_checkpoint(folder):
    run = tiny_run(folder, num_epoch=1)
    train(run)
    path = folder / "out" / "checkpoint_gpu_0.pt"
    saved = torch.load(path, weights_only=True)
    del saved["qgface"]
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match=r"checkpoint_gpu_0\.pt .* config\.init_from"):
        train(replace(run, resume=True))


def test_init_from_takes_the_weights_and_not_the_position(folder):
    run = tiny_run(folder, num_epoch=1)
    train(run)
    train(replace(run, init_from=str(folder / "out" / "model.pt"), output=str(folder / "again")))
    assert len(losses(folder, "again")) == 6 and losses(folder, "again")[0] != losses(folder)[0]


def test_degrading_on_the_device_trains_and_resumes_exactly(folder):
    on_device = DataOptions(degrade_on="device")
    train(tiny_run(folder, data=on_device, output=str(folder / "whole"), train=TrainOptions(pair_grid_every=3)))
    run = tiny_run(folder, data=on_device, train=TrainOptions(max_steps=7, checkpoint_every=7))
    train(run)
    train(replace(run, resume=True, num_workers=1, train=TrainOptions()))
    assert losses(folder) == losses(folder, "whole") and len(losses(folder)) == 12


@pytest.mark.parametrize(("workers", "on_corrupt"), [(0, "error"), (2, "error"), (0, "skip")])
def test_records_that_are_cut_while_training_are_named(folder, monkeypatch, workers, on_corrupt):
    call = TrainStep.__call__

    def cut(self, batch, global_step):
        if global_step == 2:
            os.truncate(folder / "data" / "train.rec", 5_000)
        return call(self, batch, global_step)

    monkeypatch.setattr(TrainStep, "__call__", cut)
    with pytest.raises(CutError, match=r"^\S+train\.rec: the file has 5000 bytes now, and \d+ when it was opened"):
        train(tiny_run(folder, num_workers=workers, data=DataOptions(on_corrupt=on_corrupt)))


def test_a_worker_that_dies_of_cut_records_is_explained(folder, monkeypatch):
    """What the main process gets when the file is cut between a worker's look at its size and the page."""

    def dead(self, batch, global_step):
        os.truncate(folder / "data" / "train.rec", 5_000)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's")

    monkeypatch.setattr(TrainStep, "__call__", dead)
    with pytest.raises(DataError, match=r"train\.rec: the file has 5000 bytes now"):
        train(tiny_run(folder))


def test_a_worker_that_dies_of_something_else_is_not(folder, monkeypatch):
    def dead(self, batch, global_step):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(TrainStep, "__call__", dead)
    with pytest.raises(RuntimeError, match="killed by signal"):
        train(tiny_run(folder))

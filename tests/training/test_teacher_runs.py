"""Runs with a frozen teacher: what it is, that it stays, what is saved of it, and what a resumed run is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from device_reads import Reads
from tiny import TinyBackbone, face, tiny_model, tiny_run, write_faces
from torch.nn.functional import cosine_similarity

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import DataOptions, FinetuneOptions
from qgface_plugin.config.run import Run
from qgface_plugin.data.images import encode_png
from qgface_plugin.data.pair_batch import PairBatch
from qgface_plugin.data.sources.source import open_source
from qgface_plugin.data.sources.unlabelled import UnlabelledFaces
from qgface_plugin.models.weights import export_backbone
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import CheckpointError, ConfigError, DataError
from qgface_plugin.utils.files import file_digest

PULL = QGFaceConfig(teacher_weight=1.0, classification_weight=0.0, queue="none")
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    encoder(tmp_path / "start.pt", 5)
    return tmp_path


def encoder(path: Path, seed: int) -> dict:
    torch.manual_seed(seed)
    model = TinyBackbone(8)
    model.norm.running_var.uniform_(0.001, 0.01)
    export_backbone(path, model.state_dict())
    return model.state_dict()


def pulling(folder: Path, **changes) -> Run:
    settings = {"init_from": str(folder / "start.pt"), "qgface": PULL, "num_epoch": 1, "lr": 0.2, "frequent": 1}
    return tiny_run(folder, **{**settings, **changes})


def trained(folder: Path, out: str = "out") -> list[dict]:
    lines = map(json.loads, (folder / out / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "train"]


def saved(folder: Path) -> dict:
    return torch.load(folder / "out" / "checkpoint_gpu_0.pt", weights_only=True)


def test_the_teacher_is_the_start_in_evaluation_mode_and_stays(folder):
    run = open_source(pulling(folder))[1]
    step = build.make_step(run, CPU, lambda: False)
    start = torch.load(folder / "start.pt", weights_only=True)
    teacher = step.teacher.encoder
    assert not any(module.training for module in teacher.modules()) and step.backbone.training
    images = torch.rand(16, 3, 112, 112)
    for _ in range(2):
        embeddings = step.model(images)
        loss = step.criterion(embeddings, torch.arange(8).remainder(6).repeat(2), None, None, teacher(images[:8]))
        loss.backward()
        step.optimizer.step()
    assert all(torch.equal(value, start[name]) for name, value in teacher.state_dict().items())
    assert not any(torch.equal(value, start[name]) for name, value in step.backbone.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_the_pull_of_a_step_is_that_of_the_batch(folder, monkeypatch):
    """The student in training mode on both views, the teacher in evaluation mode on the originals."""
    seen = []
    original = build.TrainStep.__call__
    monkeypatch.setattr(
        build.TrainStep, "__call__", lambda self, batch, step: seen.append(batch) or original(self, batch, step)
    )
    train(pulling(folder, batch_size=48))
    (line,), (batch,) = trained(folder), seen
    model, teacher = TinyBackbone(8), TinyBackbone(8).eval()
    for one in (model, teacher):
        one.load_state_dict(torch.load(folder / "start.pt", weights_only=True))
    high, low = ((view.double() - 127.5).float() / 127.5 for view in (batch.high, batch.low))
    with torch.no_grad():
        student, taught = model(torch.cat([high, low])), teacher(high)
    cosines = [cosine_similarity(part, taught).mean().item() for part in student.chunk(2)]
    assert line["teacher_cosine_original"] == pytest.approx(cosines[0], abs=1e-5)
    assert line["teacher_cosine_degraded"] == pytest.approx(cosines[1], abs=1e-5)
    assert line["loss"] == line["pull"] == pytest.approx(2 - sum(cosines), abs=1e-5)
    assert line["classification"] == line["contrastive"] == 0.0


@pytest.mark.parametrize(
    "method",
    [
        PULL,
        replace(PULL, queue="teacher", contrastive_gate="none"),
        QGFaceConfig(queue="teacher", quality="teacher", teacher_weight=0.5, b=0.5),
    ],
    ids=["pull", "pull and contrast", "all, gated by the teacher"],
)
def test_a_step_on_a_gpu_trains_as_one_on_a_cpu_and_reads_nothing(folder, method, monkeypatch):
    run = open_source(pulling(folder, qgface=method))[1]
    one, late = (build.make_step(run, CPU, lambda: False) for _ in range(2))
    late.late = late.criterion.late = True
    assert late.is_late
    torch.manual_seed(0)
    late.criterion.load_state_dict(one.criterion.state_dict())
    lists, tolist = [], torch.Tensor.tolist
    for number in range(1, 7):
        for step in (one, late):
            step.wait(number < 3 and method.classification_weight > 0)
        pixels = torch.from_numpy(np.stack([face(i % 6, number * 16 + i) for i in range(16)]))
        batch = PairBatch.of(pixels, True, np.arange(8) % 6, 0)
        assert one(batch, number)
        lists.clear()
        with monkeypatch.context() as patch, Reads() as seen:
            patch.setattr(torch.Tensor, "tolist", lambda self: lists.append(self) or tolist(self))
            assert late(batch, number) is None
        assert seen.count == 0 and len(lists) == (number > 1)  # the labels of the step before
        assert late.verdict() is True
    for part in ("backbone", "criterion"):
        there = getattr(late, part).state_dict()
        for name, value in getattr(one, part).state_dict().items():
            if not name.startswith("queue."):  # laid out otherwise
                torch.testing.assert_close(there[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_pulled_views_come_nearer(folder):
    train(pulling(folder, num_epoch=8))
    first, last = trained(folder)[0], trained(folder)[-1]
    assert last["teacher_cosine_degraded"] > first["teacher_cosine_degraded"] + 0.1


def test_nothing_of_the_teacher_is_in_what_is_saved(folder):
    train(pulling(folder, qgface=replace(PULL, queue="teacher")))
    names = TinyBackbone(8).state_dict().keys()
    state = saved(folder)
    assert torch.load(folder / "out" / "model.pt", weights_only=True).keys() == names
    assert state["state_dict_backbone"].keys() == names and state["qgface"]["key_encoder"] is None
    assert state["state_dict_softmax_fc"]["weight"].shape == (0, 8)
    assert state["qgface"]["teacher"] == [str(folder / "start.pt"), file_digest(folder / "start.pt")]
    assert file_digest(folder / "start.pt") in (folder / "out" / "training.log").read_text()


def test_a_resumed_run_with_another_teacher_is_refused(folder):
    train(pulling(folder))
    there = folder / "moved.pt"
    (folder / "start.pt").rename(there)
    again = pulling(folder, init_from=str(there), resume=True, num_epoch=2)
    train(again)  # the same file elsewhere
    encoder(there, 6)
    with pytest.raises(CheckpointError, match=r"its teacher was .*moved\.pt .* another one .*init_from"):
        train(replace(again, num_epoch=3))


def test_a_teacher_of_another_file_and_network(folder):
    encoder(folder / "start.pt", 5)
    small = build.load_trainable  # what the project's own networks are recognised by
    from small_models import write_model

    write_model(folder / "teacher", "quick", 8)
    assert small(folder / "teacher").network == "quick"
    train(pulling(folder, finetune=FinetuneOptions(teacher=str(folder / "teacher"))))
    assert saved(folder)["qgface"]["teacher"][1] == file_digest(folder / "teacher" / "model.pt")
    write_model(folder / "large", "quick", 16)
    with pytest.raises(ConfigError, match=r"finetune\.teacher = .*large' has embeddings of 16 .*embedding_size is 8"):
        train(pulling(folder, finetune=FinetuneOptions(teacher=str(folder / "large"))))


def test_a_teacher_that_nobody_asks_for_is_named(folder, caplog):
    train(pulling(folder, qgface=QGFaceConfig(), finetune=FinetuneOptions(teacher="none.pt")))
    assert "config.qgface.finetune.teacher = 'none.pt' is not used" in caplog.text
    assert "teacher" not in saved(folder)["qgface"]


def test_the_quality_may_be_the_teachers_norm(folder):
    run = pulling(folder, qgface=QGFaceConfig(quality="teacher", queue="teacher", b=0.5), lr=1e-9)
    train(run)
    model = TinyBackbone(8).eval()
    model.load_state_dict(torch.load(folder / "start.pt", weights_only=True))
    lines = trained(folder)
    assert all(0 < line["quality_mean"] < 100 for line in lines) and "norm_order" in lines[0]
    sharp = torch.from_numpy(np.stack([face(i // 8, i) for i in range(48)])).permute(0, 3, 1, 2)
    with torch.no_grad():
        norms = model((sharp.float() - 127.5) / 127.5).norm(dim=1)
    assert lines[-1]["quality_mean"] == pytest.approx(float(norms.mean()), rel=0.3)  # of both views; JPEG; mirrored


# faces without labels


def test_a_folder_without_labels_is_trained_on(folder):
    there = folder / "faces" / "2024"
    there.mkdir(parents=True)
    for i in range(24):
        (there.parent if i % 2 else there).joinpath(f"{i:02}.png").write_bytes(encode_png(face(i // 8, i)))
    (there / "notes.txt").write_text("no image")
    source = UnlabelledFaces(folder / "faces")
    assert len(source) == source.num_classes == 24 and Path(source.where(0)).name == "01.png"
    assert [source.read(i)[1] for i in range(24)] == source.labels().tolist() == list(range(24))
    run = pulling(folder, rec=str(folder / "faces"), data=DataOptions(source="unlabelled"))
    train(replace(run, qgface=replace(PULL, queue="teacher", contrastive_gate="none", queue_size=10)))
    assert len(trained(folder)) == 3 and trained(folder)[-1]["queue_fill"] == 1.0
    with pytest.raises(ConfigError, match="'unlabelled', but classification needs labels"):
        replace(run, qgface=QGFaceConfig())
    with pytest.raises(ConfigError, match="name the one above them"):
        train(replace(run, rec=("a", "b"), resume=False))


@pytest.mark.parametrize("there, says", [(False, "no such folder"), (True, "no image")])
def test_a_folder_without_images_is_refused(tmp_path, there, says):
    path = tmp_path / "faces"
    if there:
        path.mkdir()
    with pytest.raises(DataError, match=f"{path}: {says}"):
        UnlabelledFaces(path)

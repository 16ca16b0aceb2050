"""Class centres from an encoder: the mean of an identity's unit embeddings, on any number of ranks, only at first."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from tiny import IDENTITIES, IMAGES, TinyBackbone, tiny_model, tiny_run, write_faces

from qgface_plugin.config.options import FinetuneOptions, TrainOptions
from qgface_plugin.data.images import decode
from qgface_plugin.data.sources.source import open_source
from qgface_plugin.models.weights import export_backbone
from qgface_plugin.training import build, trainer
from qgface_plugin.training.class_means import ClassMeans, class_means, take_over
from qgface_plugin.training.trainer import train

DIM, CPU = 8, torch.device("cpu")


def encoder() -> TinyBackbone:
    torch.manual_seed(5)
    model = TinyBackbone(DIM)
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2.0)
    return model


def found(folder: Path, **changes) -> ClassMeans:
    source, run = open_source(tiny_run(folder, batch_size=5, **changes))  # 10 images at a time: the last are fewer
    return class_means(encoder(), build.make_dataset(run, source), run, CPU, torch.float32)


def loop(folder: Path) -> np.ndarray:
    """One image after the other, in float64."""
    model, (source, _) = encoder().double().eval(), open_source(tiny_run(folder))
    sums, counts = np.zeros((IDENTITIES, DIM)), np.zeros(IDENTITIES)
    for index in range(len(source)):
        encoded, label = source.read(index)
        pixels = decode(encoded, "").astype(np.float64).transpose(2, 0, 1)
        with torch.no_grad():
            h = model(torch.from_numpy((pixels - 127.5) / 127.5)[None])[0].numpy()
        sums[label] += h / np.sqrt((h * h).sum())
        counts[label] += 1
    return sums / counts[:, None]


def _on_ranks(rank: int, counts: tuple[int, ...], folder: str) -> None:
    torch.set_num_threads(1)
    for ranks in counts:
        if rank < ranks:
            there = f"file://{folder}/group{ranks}"
            torch.distributed.init_process_group("gloo", init_method=there, rank=rank, world_size=ranks)
            torch.save(tuple(found(Path(folder))), f"{folder}/{ranks}_{rank}.pt")
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("means")
    write_faces(path / "data")
    return path


def test_one_two_and_three_ranks_have_the_means_of_the_loop(folder):
    mp.spawn(_on_ranks, args=((2, 3), str(folder)), nprocs=3)
    one = found(folder)
    assert one.images.tolist() == [IMAGES] * IDENTITIES and one.means.dtype == torch.float32
    np.testing.assert_allclose(one.means.numpy(), loop(folder), rtol=0, atol=3e-7)
    for ranks in (2, 3):
        parts = [torch.load(folder / f"{ranks}_{rank}.pt", weights_only=True) for rank in range(ranks)]
        assert [len(means) for means, _ in parts] == [IDENTITIES // ranks] * ranks
        np.testing.assert_allclose(torch.cat([means for means, _ in parts]), one.means, rtol=0, atol=3e-7)
        assert torch.cat([images for _, images in parts]).tolist() == one.images.tolist()


def test_workers_change_nothing_and_neither_modes_nor_draws_move(folder):
    source, run = open_source(tiny_run(folder, num_workers=2))
    model = encoder().train()
    before = torch.get_rng_state()
    means = class_means(model, build.make_dataset(run, source), run, CPU, torch.float32).means
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.allclose(means, found(folder).means, rtol=0, atol=3e-7)
    assert model.training and model.norm.training and torch.equal(model.norm.running_mean, encoder().norm.running_mean)


def test_an_identity_without_an_image_keeps_the_centre_that_was_drawn(folder, caplog):
    _, run = open_source(tiny_run(folder))
    criterion = build.make_criterion(run, CPU, fp16=False)
    drawn, means = criterion.weight.detach().clone(), torch.rand(IDENTITIES, DIM)
    with caplog.at_level(logging.INFO, "qgface_plugin"):
        take_over(ClassMeans(means, torch.tensor([2, 0, 1, 1, 1, 1])), criterion)
    assert torch.equal(criterion.weight[1], drawn[1]) and torch.equal(criterion.weight[2:], means[2:])
    assert "1 have no image" in caplog.text and criterion.weight.requires_grad


def test_a_run_starts_from_them_and_a_resumed_one_does_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    start = tmp_path / "model.pt"
    export_backbone(start, encoder().state_dict())
    options = {"output": str(tmp_path / "out"), "init_from": str(start), "lr": 1e-12, "weight_decay": 0.0}
    options["finetune"] = FinetuneOptions(init_centres="means", batchnorm="frozen")
    train(tiny_run(folder, num_epoch=1, **options))
    saved = torch.load(tmp_path / "out" / "checkpoint_gpu_0.pt", weights_only=True)
    np.testing.assert_allclose(saved["state_dict_softmax_fc"]["weight"], found(folder).means, rtol=0, atol=1e-6)

    monkeypatch.setattr(trainer, "class_means", None)  # is not called again
    train(tiny_run(folder, num_epoch=2, resume=True, train=TrainOptions(max_steps=8), **options))

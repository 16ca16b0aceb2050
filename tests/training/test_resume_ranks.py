"""Resuming on real gloo groups: exact on as many ranks, the same to rounding on fewer and more; stops and failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from tiny import TinyBackbone, same, tiny_run, write_faces
from torch import nn

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import FinetuneOptions, TrainOptions
from qgface_plugin.config.run import Run
from qgface_plugin.loss.partial_fc import QGPartialFC
from qgface_plugin.models.weights import export_backbone
from qgface_plugin.training import build
from qgface_plugin.training.checkpoints.store import CheckpointStore
from qgface_plugin.training.trainer import train
from qgface_plugin.utils import distributed
from qgface_plugin.utils.errors import CheckpointError, Stopped, TrainingError

BATCH, STOP = 12, 3  # images a step over all ranks: 4 steps an epoch; step 3 is in an epoch and between two updates


class PlainBackbone(TinyBackbone):
    """Without batch normalisation, whose statistics are of a rank's share of the batch."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.norm = nn.Sequential(nn.Tanh(), nn.Linear(num_features, num_features))


def a_run(folder: Path, ranks: int, out: str, **changes) -> Run:
    settings = dict(batch_size=BATCH // ranks, output=str(folder / out), qgface=QGFaceConfig(queue_size=40, b=0.4))
    return tiny_run(folder, **{**settings, **changes})


def plain_run(folder: Path, ranks: int, out: str, **changes) -> Run:
    return a_run(folder, ranks, out, gradient_acc=2, lr=0.2, **changes)


def tuned(folder: Path, **changes) -> dict:
    """Fine-tuning with class centres from the encoder, a backbone that waits for two steps, and a teacher."""
    method = QGFaceConfig(queue="teacher", queue_size=40, teacher_weight=0.5, b=0.4)
    waiting = FinetuneOptions(init_centres="means", frozen_epochs=0.5, backbone_lr=0.02)
    return {"init_from": str(folder / "start.pt"), "qgface": method, "finetune": waiting, **changes}


def alone(folder: Path) -> dict:
    """Fine-tuning by the teacher alone: no class centres, entries of the queue by class all the same."""
    method = QGFaceConfig(queue="teacher", queue_size=40, teacher_weight=0.5, classification_weight=0.0, b=0.6)
    return {"init_from": str(folder / "plain.pt"), "qgface": method}


def stopped_after_every_step(run: Run) -> None:
    """Every process ends in the forward pass of its second step, until the run is through."""
    forward, starts = QGPartialFC.forward, 0

    def struck(self, *arguments):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return forward(self, *arguments)

    QGPartialFC.forward = struck
    try:
        for starts in range(20):
            try:
                train(replace(run, resume=starts > 0, train=TrainOptions(checkpoint_every=1)))
                return
            except KeyboardInterrupt:
                continue
        raise AssertionError("the run does not get on")
    finally:
        QGPartialFC.forward = forward


def sigterm_on_the_last_rank(run: Run) -> str:
    """SIGTERM reaches one rank only, in its second step."""
    forward, calls = QGPartialFC.forward, []

    def struck(self, *arguments):
        calls.append(1)
        if len(calls) == 2 and distributed.rank() == distributed.world_size() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *arguments)

    QGPartialFC.forward = struck
    try:
        train(run)
    except Stopped as error:
        return str(error)
    finally:
        QGPartialFC.forward = forward
    return "not stopped"


def full_disk_on_the_last_rank(run: Run) -> str:
    """The second save fails on one rank."""
    save, calls = CheckpointStore.save, []

    def struck(self, state):
        calls.append(1)
        if len(calls) == 2 and distributed.rank() == distributed.world_size() - 1:
            raise CheckpointError(f"{self.latest} could not be saved: No space left on device")
        return save(self, state)

    CheckpointStore.save = struck
    try:
        train(replace(run, train=TrainOptions(checkpoint_every=2, keep_checkpoints=1)))
    except TrainingError as error:
        return str(error)
    finally:
        CheckpointStore.save = save
    return "trained"


def work(rank: int, name: str) -> None:
    """One process; it takes part in groups of 4, 3, 2 and 1 ranks, one after the other."""
    torch.set_num_threads(1)
    folder = Path(name)
    said = {}
    for ranks in (4, 3, 2, 1):
        if rank >= ranks:
            break
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/group{ranks}", rank=rank, world_size=ranks
        )
        build.get_model = lambda name, num_features, features_bias: PlainBackbone(num_features)
        if ranks == 4:
            train(plain_run(folder, 4, "whole"))
            train(plain_run(folder, 4, "stopped", train=TrainOptions(max_steps=STOP)))
            train(plain_run(folder, 4, "alone", **alone(folder)))
            train(plain_run(folder, 4, "alone2", train=TrainOptions(max_steps=STOP), **alone(folder)))
            if rank == 0:
                for fewer in (3, 2, 1):
                    shutil.copytree(folder / "stopped", folder / f"on{fewer}")
            distributed.barrier()
        else:
            train(plain_run(folder, ranks, f"on{ranks}", resume=True))
        if ranks == 3:
            build.get_model = lambda name, num_features, features_bias: TinyBackbone(num_features)
            train(a_run(folder, 3, "three", num_epoch=1))
            stopped_after_every_step(a_run(folder, 3, "three again", num_epoch=1))
            train(a_run(folder, 3, "tuned", num_epoch=1, **tuned(folder)))
            stopped_after_every_step(a_run(folder, 3, "tuned again", num_epoch=1, **tuned(folder)))
        if ranks == 2:
            train(plain_run(folder, 2, "alone2", resume=True, **alone(folder)))
            build.get_model = lambda name, num_features, features_bias: TinyBackbone(num_features)
            said["sigterm"] = sigterm_on_the_last_rank(a_run(folder, 2, "sigterm"))
            said["disk"] = full_disk_on_the_last_rank(a_run(folder, 2, "disk"))
        distributed.barrier()
        torch.distributed.destroy_process_group()
    (folder / f"said{rank}.json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the processes have left, after four of them have run."""
    found = tmp_path_factory.mktemp("ranks")
    write_faces(found / "data")
    torch.manual_seed(1)
    export_backbone(found / "start.pt", TinyBackbone(8).state_dict())
    export_backbone(found / "plain.pt", PlainBackbone(8).state_dict())
    mp.spawn(work, args=(str(found),), nprocs=4)
    return found


def losses(folder: Path, out: str) -> list[float]:
    lines = map(json.loads, (folder / out / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines]


def checkpoints(folder: Path, out: str, ranks: int) -> list[dict]:
    files = [folder / out / f"checkpoint_gpu_{rank}.pt" for rank in range(ranks)]
    return [torch.load(file, weights_only=True) for file in files]


@pytest.mark.parametrize("name", ["three", "tuned"])
def test_three_ranks_stopped_after_every_step_are_exact(folder, name):
    """On three ranks the order of a sum over the ranks depends on where a number lies in DDP's buckets."""
    assert losses(folder, name) == losses(folder, f"{name} again") and len(losses(folder, name)) == 4
    for one, other in zip(checkpoints(folder, name, 3), checkpoints(folder, f"{name} again", 3), strict=True):
        for state in (one, other):
            del state["qgface"]["run_id"], state["qgface"]["recipe"], state["qgface"]["record"]
        assert same(one, other)


@pytest.mark.parametrize("ranks", [3, 2, 1])
def test_another_number_of_ranks_goes_on_with_the_same_losses(folder, ranks):
    whole, found = losses(folder, "whole"), losses(folder, f"on{ranks}")
    assert len(whole) == 8 and found[:STOP] == whole[:STOP]
    np.testing.assert_allclose(found, whole, rtol=2e-5)
    assert max(abs(a - b) for a, b in zip(whole, whole[STOP:], strict=False)) > 1e-2, "nothing would be seen"

    expected, cut = checkpoints(folder, "whole", 4), checkpoints(folder, f"on{ranks}", ranks)
    centres = [torch.cat([part["state_dict_softmax_fc"]["weight"] for part in who]) for who in (cut, expected)]
    torch.testing.assert_close(*centres, rtol=1e-4, atol=1e-6)
    backbones = [who[0]["state_dict_backbone"] for who in (cut, expected)]
    torch.testing.assert_close(*backbones, rtol=1e-4, atol=1e-6)
    assert all(part["qgface"]["world_size"] == ranks and part["global_step"] == 8 for part in cut)


def test_two_of_four_ranks_go_on_without_class_centres(folder):
    whole, found = losses(folder, "alone"), losses(folder, "alone2")
    assert len(whole) == 8 and found[:STOP] == whole[:STOP]
    np.testing.assert_allclose(found, whole, rtol=2e-5)
    state = checkpoints(folder, "alone2", 2)[1]["state_dict_softmax_fc"]
    assert state["weight"].shape == (0, 8) and (state["queue.serial"] >= 0).any()


def test_sigterm_on_one_rank_stops_all_after_the_same_step(folder):
    for rank in range(2):
        assert json.loads((folder / f"said{rank}.json").read_text())["sigterm"].startswith(
            "SIGTERM: stopped and saved after step 2; config.resume = True"
        )
    assert [part["global_step"] for part in checkpoints(folder, "sigterm", 2)] == [2, 2]


def test_a_disk_that_is_full_for_one_rank_stops_all(folder):
    for rank in range(2):
        said = json.loads((folder / f"said{rank}.json").read_text())["disk"]
        assert "checkpoint_gpu_1.pt could not be saved: No space left on device" in said
    assert sorted(path.name for path in (folder / "disk").glob("*.pt")) == [
        "checkpoint_gpu_0.2.pt", "checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "model.pt",
    ]  # fmt: skip
    assert torch.load(folder / "disk" / "checkpoint_gpu_0.2.pt", weights_only=True)["global_step"] == 2

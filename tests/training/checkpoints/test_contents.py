"""Checkpoints that are whole and hold what no run has saved: refused by name before anything of the run is touched."""

from __future__ import annotations

import io
import random
import re
import shutil
from dataclasses import replace

import pytest
import torch
from tiny import tiny_model, tiny_run, write_faces
from torch import nn

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import TrainOptions
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import CheckpointError, TrainingError
from qgface_plugin.utils.torch_files import save


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory):
    """Five steps of it are saved, in the middle of an epoch, of a line of the log and between two updates."""
    folder = tmp_path_factory.mktemp("saved")
    write_faces(folder / "data")
    run = tiny_run(folder, gradient_acc=2, frequent=2, qgface=QGFaceConfig(queue="momentum"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "get_model", tiny_model)
        train(replace(run, train=TrainOptions(max_steps=5)))
    return run


@pytest.fixture
def run(saved_run, tmp_path):
    shutil.copytree(saved_run.output, tmp_path / "out")
    return replace(saved_run, output=str(tmp_path / "out"), resume=True)


def put(path: str, value):
    """A change of a checkpoint: the entry at `path`, keys with dots."""

    def change(saved):
        *folders, key = path.split("/")
        for folder in folders:
            saved = saved[int(folder) if folder.isdigit() else folder]
        saved[int(key) if key.isdigit() else key] = value

    return change


def drop(part: str, key: str):
    return lambda saved: saved[part].pop(key)


FIELDS = {
    "epoch": (-1, "0", True, 1 << 60),
    "global_step": (-1,),
    "qgface/step_in_epoch": (-3, 1.5, None),
    "qgface/skipped": (-1, [1]),
    "qgface/bad_in_a_row": (-1, "many"),
    "qgface/global_batch": (0, -8, None),
    "qgface/run_id": (3, None),
    "qgface/recipe": ({}, [], {1: 2}, {"network": "r50", "qgface": 3}),
    "qgface/names": ([], {"backbone": []}, {"backbone": ["a"], "criterion": [], "optimizer": [1]}),
    "qgface/rank": (1, "0", None),
    "qgface/classes": ([0, 5], [1, 6], "all", None),
    "qgface/rng": ([], {"python": 1}, {}),
    "qgface/rng/torch": (torch.zeros(3, dtype=torch.uint8), torch.zeros(5056, dtype=torch.uint8), "seed"),
    "qgface/rng/numpy/rest": ([625, 0, 0.0], [-1, 0, 0.0], [1]),
    "qgface/rng/numpy/keys": (torch.zeros(3, dtype=torch.int64), torch.full((624,), -1)),
    "qgface/rng/python/state": (torch.zeros(9, dtype=torch.int64), torch.full((625,), 1 << 40)),
    "qgface/scaler": (None, {"scale": -1.0}, {"scale": "x"}),
    "qgface/key_encoder": (None, {}, {"encoder.layer.weight": torch.zeros(2)}),
    "qgface/record": ([], {"means": {}}, {"means": {"steps": 1, "sums": {"a": "b"}, "counts": {}}, "watch": []}),
    "qgface/gradients": ([], {"backbone": [None]}, {"backbone": [None] * 9, "criterion": [None]}),
    "qgface/gradients/backbone/0": (torch.zeros(2), torch.zeros(8, 147).double(), "zero"),
    "state_dict_backbone": ({}, [], {"layer.weight": torch.zeros(2)}),
    "state_dict_backbone/layer.weight": (torch.zeros(8, 146), torch.zeros(8, 147).half(), 1, None),
    "state_dict_backbone/norm.num_batches_tracked": (torch.tensor(-1), torch.zeros(2, dtype=torch.int64)),
    "state_dict_softmax_fc/weight": (torch.zeros(5, 8), torch.zeros(6, 9), torch.zeros(6, 8).to_sparse()),
    "state_dict_softmax_fc/queue.labels": (torch.full((6,), 6), torch.full((6,), -2), torch.full((5,), -1)),
    "state_dict_softmax_fc/queue.residual": (torch.zeros(6, 9), torch.zeros(6), torch.zeros(0)),
    "state_dict_softmax_fc/queue.cursor": (torch.tensor(6), torch.tensor(-1), torch.tensor(1.0)),
    "state_dict_softmax_fc/queue.enqueued": (torch.tensor(-5),),
    "state_optimizer": ([], {}, {"state": {}, "param_groups": [{"params": [0]}]}),
    "state_optimizer/state/4/momentum_buffer": (torch.zeros(6), torch.zeros(6, 7), torch.zeros(0)),
}


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_that_no_run_saves_is_refused(run, tmp_path, path):
    file = tmp_path / "out" / "checkpoint_gpu_0.pt"
    saved = file.read_bytes()
    for value in FIELDS[path]:
        state = torch.load(file, weights_only=True)
        put(path, value)(state)
        save(file, state)
        with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "out"))):
            train(run)
        file.write_bytes(saved)


@pytest.mark.parametrize(
    ("part", "key"), [("qgface", "step_in_epoch"), ("state_dict_backbone", "norm.bias"), ("state_optimizer", "state")]
)
def test_a_field_that_is_missing_is_named(run, tmp_path, part, key):
    file = tmp_path / "out" / "checkpoint_gpu_0.pt"
    state = torch.load(file, weights_only=True)
    drop(part, key)(state)
    save(file, state)
    with pytest.raises(CheckpointError, match=re.escape(key)):
        train(run)


def test_weights_that_are_not_finite_are_passed_over(run, tmp_path):
    """As an earlier version may have saved them; without another set the run is refused."""
    file = tmp_path / "out" / "checkpoint_gpu_0.pt"
    whole = torch.load(file, weights_only=True)
    state = torch.load(file, weights_only=True)
    state["state_dict_backbone"]["layer.weight"][0, 0] = torch.inf
    save(file, state)
    with pytest.raises(CheckpointError, match=r"no usable checkpoint in .*backbone\.layer\.weight is not finite"):
        train(run)
    whole["global_step"] = 4
    save(tmp_path / "out" / "checkpoint_gpu_0.4.pt", whole)
    train(run)
    assert "resumed after step 4" in (tmp_path / "out" / "training.log").read_text()


def test_features_bias_must_be_that_of_the_checkpoint(run):
    for changed in (replace(run, train=TrainOptions(features_bias=False)), replace(run, network="r18")):
        with pytest.raises(CheckpointError, match=r"features_bias: True in the|network: 'r50' in the"):
            train(changed)


class Convolved(nn.Module):
    """A convolution, so that the memory layout matters. Images (B, 3, 112, 112) -> (B, d)."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 16, stride=16)
        self.layer = nn.Linear(4 * 49, num_features)
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(self.convolution(images).tanh().flatten(1)))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("changes", [dict(gradient_acc=2), dict(optimizer="adamw", lr=0.003)], ids=["sgd", "adamw"])
def test_a_changed_memory_layout_goes_on_with_the_same_losses(tmp_path, monkeypatch, before, changes):
    monkeypatch.setattr(build, "get_model", lambda name, num_features, features_bias: Convolved(num_features))
    write_faces(tmp_path / "data")
    run = tiny_run(tmp_path, qgface=QGFaceConfig(queue="momentum"), **changes)
    found = {}
    for name, after in (("as it was", before), ("changed", not before)):
        out = replace(run, output=str(tmp_path / name))
        train(replace(out, train=TrainOptions(max_steps=5, channels_last=before)))
        train(replace(out, resume=True, train=TrainOptions(channels_last=after)))
        saved = torch.load(tmp_path / name / "checkpoint_gpu_0.pt", weights_only=True)
        found[name] = saved["state_dict_backbone"], (tmp_path / name / "metrics.jsonl").read_text()
    losses = [[float(loss) for loss in re.findall(r'"loss": ([\d.]+)', text)] for _, text in found.values()]
    assert len(losses[0]) == 12 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, other = (weights["convolution.weight"] for weights, _ in found.values())
    assert one.stride() != other.stride()
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


# anything anywhere

ODD = (
    None, 0, 1, -1, True, 1.5, float("nan"), float("inf"), 2**70, "", "x", [], {}, [1], {"a": 1}, (1, 2),
    torch.zeros(()), torch.tensor(-1), torch.tensor(2**62), torch.zeros(0), torch.zeros(3), torch.zeros(6, 8),
    torch.zeros(8, 147), torch.zeros(6, 8).double(), torch.full((20,), 99), torch.full((20,), -5),
    torch.zeros(1).expand(6, 8), torch.zeros(6, 8).to_sparse(), torch.zeros(5056, dtype=torch.uint8),
    torch.full((625,), 2**33), torch.tensor(torch.nan),
)  # fmt: skip


def places(value, at: tuple = ()) -> list[tuple]:
    """The keys that lead to each entry."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([at] if at else []), *(place for key, item in entries for place in places(item, (*at, key)))]


def spoil(saved: dict, draw: random.Random) -> None:
    """Drop an entry, change a number of a tensor, or put something odd in its place."""
    *folders, key = draw.choice([p for p in places(saved) if p[1:2] != ("recipe",) or draw.random() < 0.05])
    part, how = saved, draw.randrange(4)
    for folder in folders:
        part = part[folder]
    if how == 0 and isinstance(part, dict):
        del part[key]
    elif how == 1 and isinstance(part[key], torch.Tensor) and part[key].numel() and not part[key].is_sparse:
        part[key] = part[key].clone()
        part[key].view(-1)[draw.randrange(part[key].numel())] = draw.choice((0, 1, 5, 99))
    else:
        part[key] = draw.choice(ODD)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("count", [40, pytest.param(1500, marks=pytest.mark.long)])
def test_a_crafted_checkpoint_is_refused_or_trained_on(saved_run, tmp_path, optimizer, count):
    """Never another error than the project's own, and never the end of the process."""
    draw, file = random.Random(count), tmp_path / "out" / "checkpoint_gpu_0.pt"
    five = TrainOptions(max_steps=5, pair_grid_every=0)
    run = replace(saved_run, output=str(tmp_path / "out"), optimizer=optimizer, qgface=QGFaceConfig(queue_size=20))
    train(replace(run, train=five))
    whole, refused = file.read_bytes(), 0
    for _ in range(count):
        state = torch.load(io.BytesIO(whole), weights_only=True)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            spoil(state, draw)
        save(file, state)
        try:
            train(replace(run, resume=True, train=replace(five, max_steps=7)))
        except (CheckpointError, TrainingError):
            refused += 1
        for path in (tmp_path / "out").glob("checkpoint_gpu_0*"):
            path.unlink()
    assert count / 2 < refused < count

"""Checkpoints: whole or recognised as not, old or new but never neither, plain values or refused."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qgface_plugin.errors import CheckpointError
from qgface_plugin.hosts import checkpoint
from qgface_plugin.hosts.checkpoint import KEYS, CheckpointStore, load, save


def state(step: int, **extra) -> dict:
    weight = torch.arange(12, dtype=torch.float32).view(3, 4) + step
    return {
        "epoch": step // 10,
        "global_step": step,
        "state_dict_backbone": {"weight": weight},
        "state_dict_softmax_fc": {"weight": weight * 2},
        "state_optimizer": {
            "state": {0: {"momentum_buffer": weight * 3}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "state_lr_scheduler": {"last_epoch": step, "_last_lr": [0.1]},
        **extra,
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


# one file


def test_round_trip_of_all_plain_values(tmp_path):
    value = {
        "a": [1, 2.5, None, True, ("x", {3: torch.ones(2, dtype=torch.int64)})],
        "p": torch.nn.Parameter(torch.ones(1)),
    }
    save(tmp_path / "s.pt", value)
    loaded = load(tmp_path / "s.pt")
    assert same(value["a"], loaded["a"]) and torch.equal(value["p"], loaded["p"])
    assert names(tmp_path) == ["s.pt"]


def test_plain_torch_load_reads_it(tmp_path):
    save(tmp_path / "s.pt", state(3))
    assert same(torch.load(tmp_path / "s.pt", weights_only=True), state(3))


def test_a_real_optimizer_scheduler_and_scaler_are_plain(tmp_path):
    model = torch.nn.Linear(3, 2)
    for make in (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=0.1)):
        optimizer = make(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        value = {"o": optimizer.state_dict(), "s": schedule.state_dict(), "g": torch.amp.GradScaler("cpu").state_dict()}
        save(tmp_path / "s.pt", value)
        make(model.parameters()).load_state_dict(load(tmp_path / "s.pt")["o"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"lr": np.float64(0.1)}}, r"state\['a'\]\['lr'\] is numpy.float64: a checkpoint holds tensors"),
        ({"a": [0, Path("x")]}, r"state\['a'\]\[1\] is pathlib"),
        ({np.int64(1): 2}, "the key .*1.* of state is numpy.int64"),
    ],
)
def test_what_would_not_load_is_not_saved(tmp_path, value, message):
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / "s.pt", value)
    assert names(tmp_path) == []


def test_hostile_pickles_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**state(1), "qgface": Hostile()}, "zip.pt")
    Path("raw.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError, match="zip.pt is refused: it asks for posix.mkdir"):
        load("zip.pt")
    with pytest.raises(CheckpointError, match="raw.pt is damaged, or no file of torch.save"):
        load("raw.pt")
    assert names(tmp_path) == ["raw.pt", "zip.pt"]


def test_absent_file(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        load(tmp_path / "nowhere.pt")


# failures while saving


class FullDisk:
    """A file on a disk that has room for `room` bytes more."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99], ids=["at once", "in the tensors", "in the seal"])
def test_full_disk(tmp_path, monkeypatch, part):
    store = CheckpointStore(tmp_path)
    room = int(part * store.save(state(10)).stat().st_size)
    monkeypatch.setattr(
        checkpoint,
        "open",
        lambda path, mode: FullDisk(open(path, mode), room) if "w" in mode else open(path, mode),
        raising=False,
    )
    with pytest.raises(
        CheckpointError, match="could not be saved: No space left on device; the one saved before is whole"
    ):
        store.save(state(20))
    assert names(tmp_path) == ["checkpoint_gpu_0.pt"]
    assert store.load_latest()["global_step"] == 10
    with pytest.raises(CheckpointError, match="there is none saved before"):
        save(tmp_path / "other.pt", state(1))
    monkeypatch.undo()
    store.save(state(30))
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]


def python(code: str, folder: Path) -> subprocess.CompletedProcess:
    head = "import os, sys, torch; sys.path.insert(0, sys.argv[2]); from qgface_plugin.hosts import checkpoint as c\n"
    head += f"state = lambda step: {{**dict.fromkeys({KEYS!r}, 1), 'global_step': step, 'w': torch.ones(100_000)}}\n"
    head += "store = c.CheckpointStore(sys.argv[1])\n"
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", head + code, str(folder), str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_file_size_limit_of_the_system(tmp_path):
    pytest.importorskip("resource")
    CheckpointStore(tmp_path).save(state(10))
    done = python(
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000,) * 2); store.save(state(20))", tmp_path
    )
    assert done.returncode == 1
    assert "could not be saved: File too large; the one saved before is whole" in done.stderr
    assert names(tmp_path) == ["checkpoint_gpu_0.pt"] and load(tmp_path / "checkpoint_gpu_0.pt")["global_step"] == 10


@pytest.mark.parametrize("where", ["seal", "os.replace", "_sync_folder"])
def test_killed_while_saving(tmp_path, where):
    store = CheckpointStore(tmp_path)
    store.save(state(10))
    done = python(f"c.{where} = lambda *a: os._exit(9)\nstore.save(state(20))", tmp_path)
    assert done.returncode == 9
    found = CheckpointStore(tmp_path).load_latest()
    assert found["global_step"] == (20 if where == "_sync_folder" else 10)
    assert (tmp_path / "checkpoint_gpu_0.pt.tmp").exists() == (where != "_sync_folder")
    CheckpointStore(tmp_path).save(state(30))  # what the kill left behind is in nobody's way
    assert CheckpointStore(tmp_path).load_latest()["global_step"] == 30
    assert "checkpoint_gpu_0.pt.tmp" not in names(tmp_path)


def test_an_error_that_is_not_the_disks_is_not_dressed_up(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="something else"):
        save(tmp_path / "s.pt", state(1))
    assert names(tmp_path) == []


# the store


@pytest.mark.parametrize(("keep", "older"), [(1, []), (2, [40]), (3, [30, 40])])
def test_rotation(tmp_path, keep, older):
    store = CheckpointStore(tmp_path / "run", rank=1, keep=keep)
    assert store.load_latest() is None
    for step in (10, 20, 30, 40, 50):
        assert store.save(state(step)) == tmp_path / "run" / "checkpoint_gpu_1.pt"
    assert names(tmp_path / "run") == [*(f"checkpoint_gpu_1.{s}.pt" for s in older), "checkpoint_gpu_1.pt"]
    for step in older:
        assert load(tmp_path / "run" / f"checkpoint_gpu_1.{step}.pt")["global_step"] == step
    loaded = store.load_latest()
    assert loaded.pop("qgface") == {"format": checkpoint.FORMAT}
    assert same(loaded, state(50))


def test_rotation_goes_on_in_a_new_process_and_without_hard_links(tmp_path, monkeypatch):
    def no_links(*arguments):
        raise OSError(errno.EPERM, "no links here")

    CheckpointStore(tmp_path, keep=3).save(state(10))
    monkeypatch.setattr(os, "link", no_links)
    CheckpointStore(tmp_path, keep=3).save(state(20))
    monkeypatch.undo()
    CheckpointStore(tmp_path, keep=3).save(state(30))
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.20.pt", "checkpoint_gpu_0.pt"]


def test_ranks_do_not_touch_each_others_files(tmp_path):
    for rank in (0, 1, 11):
        store = CheckpointStore(tmp_path, rank=rank, keep=1)
        store.save(state(10 + rank))
        store.save(state(20 + rank))
    assert names(tmp_path) == ["checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "checkpoint_gpu_11.pt"]
    assert CheckpointStore(tmp_path, rank=1).load_latest()["global_step"] == 21


def test_a_run_that_starts_again_replaces_the_later_steps(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    for step in (10, 20, 30):
        store.save(state(step))
    again = CheckpointStore(tmp_path, keep=3)
    again.save(state(15))
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]
    again.save(state(15))  # the same step twice: one file
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]


def test_a_damaged_newest_is_passed_over_with_a_warning(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    store.save(state(10))
    store.save(state(20))
    store.newest.write_bytes(store.newest.read_bytes()[:-1000])
    with caplog.at_level(logging.WARNING, logger="qgface_plugin"):
        assert CheckpointStore(tmp_path).load_latest()["global_step"] == 10
    assert (
        "checkpoint_gpu_0.pt is cut short" in caplog.text and "passed over for the checkpoint before it" in caplog.text
    )
    CheckpointStore(tmp_path).save(state(30))  # the damaged file does not push the good one out
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]


def test_no_usable_file_is_an_error_that_names_all(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(state(10))
    store.save(state(20))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"checkpoint_gpu_0.pt is damaged.*checkpoint_gpu_0.10.pt is damaged"):
        store.load_latest()


def test_ranks_agree_on_a_step(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(state(10))
    store.save(state(20))
    assert store.load_latest(at_most=19)["global_step"] == 10
    assert store.load_latest(at_most=20)["global_step"] == 20
    with pytest.raises(CheckpointError, match="is of step 20, after step 5"):
        store.load_latest(at_most=5)


def test_a_hostile_newest_stops_the_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore(tmp_path)
    store.save(state(10))
    store.save(state(20))
    torch.save({**state(30), "qgface": Hostile()}, store.newest)
    with pytest.raises(CheckpointError, match="is refused: it asks for"):
        CheckpointStore(tmp_path).load_latest()
    assert "pwned" not in names(tmp_path)


def test_files_that_are_no_checkpoint_of_ours(tmp_path):
    store = CheckpointStore(tmp_path)
    torch.save(state(10), store.newest)  # as arcface_torch writes it
    assert same(store.load_latest(), state(10))
    torch.save({"weight": torch.ones(1)}, store.newest)
    with pytest.raises(CheckpointError, match="is no training checkpoint: it lacks epoch, global_step"):
        store.load_latest()
    save(store.newest, state(10, qgface={"format": checkpoint.FORMAT + 1}))
    with pytest.raises(CheckpointError, match="later than this version's"):
        store.load_latest()


def test_mistakes_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="missing: state_optimizer"):
        CheckpointStore(tmp_path).save({k: v for k, v in state(1).items() if k != "state_optimizer"})
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointStore(tmp_path, keep=0)

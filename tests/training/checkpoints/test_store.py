"""The checkpoints in a folder: rotation, sets of which no rank is missing, what a kill or a full disk leaves."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT
from tiny import same

from qgface_plugin.training.checkpoints.store import CheckpointSet, CheckpointStore, Entry, complete_sets, entries
from qgface_plugin.utils import files
from qgface_plugin.utils.errors import CheckpointError
from qgface_plugin.utils.files import leftovers
from qgface_plugin.utils.torch_files import FORMAT, KEYS, load, save


def state(step: int, run_id: str = "a", ranks: int = 1) -> dict:
    weight = torch.arange(12, dtype=torch.float32).view(3, 4) + step
    return {
        "epoch": step // 10,
        "global_step": step,
        "state_dict_backbone": {"weight": weight},
        "state_dict_softmax_fc": {"weight": weight * 2},
        "state_optimizer": {"state": {0: {"momentum_buffer": weight * 3}}, "param_groups": [{"lr": 0.1}]},
        "state_lr_scheduler": {"last_epoch": step, "_last_lr": [0.1]},
        "qgface": {"run_id": run_id, "world_size": ranks},
    }


def saved(store: CheckpointStore, *steps: int, run_id: str = "a") -> None:
    """Save as a run does when all ranks succeed."""
    for step in steps:
        store.save(state(step, run_id, store.ranks))
        store.prune(run_id)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def steps(folder: Path) -> list[tuple[int, int]]:
    """(rank, step) of each file, which has to be whole."""
    found, problems = entries(folder)
    assert not problems and all(load(entry.path)["global_step"] == entry.step for entry in found)
    return sorted((entry.rank, entry.step) for entry in found)


# rotation


@pytest.mark.parametrize(("keep", "older"), [(1, []), (2, [40]), (3, [30, 40])])
def test_rotation(tmp_path, keep, older):
    store = CheckpointStore(tmp_path / "run", rank=1, ranks=2, keep=keep)
    saved(store, 10, 20, 30, 40)
    assert store.save(state(50)) == tmp_path / "run" / "checkpoint_gpu_1.pt"
    store.prune("a")
    assert names(tmp_path / "run") == [*(f"checkpoint_gpu_1.{s}.pt" for s in older), "checkpoint_gpu_1.pt"]
    for step in older:
        assert load(tmp_path / "run" / f"checkpoint_gpu_1.{step}.pt")["global_step"] == step
    loaded = load(store.latest)
    assert loaded["qgface"].pop("format") == FORMAT and same(loaded, state(50))


def test_nothing_is_removed_before_all_ranks_have_saved(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    saved(store, 10)
    store.save(state(20))
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]
    store.prune("a")
    assert names(tmp_path) == ["checkpoint_gpu_0.pt"]


def test_rotation_in_a_new_process_and_without_hard_links(tmp_path, monkeypatch):
    def no_links(*arguments):
        raise OSError(errno.EPERM, "no links here")

    saved(CheckpointStore(tmp_path, keep=3), 10)
    monkeypatch.setattr(os, "link", no_links)
    saved(CheckpointStore(tmp_path, keep=3), 20)
    monkeypatch.undo()
    saved(CheckpointStore(tmp_path, keep=3), 30)
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.20.pt", "checkpoint_gpu_0.pt"]


def test_ranks_do_not_touch_each_others_files(tmp_path):
    for rank in (0, 1, 11):
        saved(CheckpointStore(tmp_path, rank=rank, ranks=12, keep=1), 10 + rank, 20 + rank)
    assert names(tmp_path) == ["checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "checkpoint_gpu_11.pt"]
    assert steps(tmp_path) == [(0, 20), (1, 21), (11, 31)]


def test_a_run_that_goes_back_replaces_the_later_steps(tmp_path):
    saved(CheckpointStore(tmp_path, keep=3), 10, 20, 30)
    again = CheckpointStore(tmp_path, keep=3)
    again.go_on_from(10)
    saved(again, 15)
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]
    saved(again, 15)  # the same step twice: one file
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]
    assert steps(tmp_path) == [(0, 10), (0, 15)]


def test_a_damaged_latest_does_not_push_the_good_one_out(tmp_path):
    store = CheckpointStore(tmp_path)
    saved(store, 10, 20)
    whole = bytearray(store.latest.read_bytes())
    whole[len(whole) // 2] ^= 1  # its head can be read
    store.latest.write_bytes(whole)
    again = CheckpointStore(tmp_path)
    again.go_on_from(10)
    saved(again, 30)
    assert steps(tmp_path) == [(0, 10), (0, 30)]


def test_a_damaged_latest_is_replaced(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    saved(store, 10, 20)
    store.latest.write_bytes(store.latest.read_bytes()[:-1000])
    found, problems = entries(tmp_path)
    assert [entry.step for entry in found] == [10] and "checkpoint_gpu_0.pt is cut short" in problems[0]
    with caplog.at_level(logging.WARNING, logger="qgface_plugin"):
        saved(CheckpointStore(tmp_path), 30)
    assert "is cut short" in caplog.text and "it is replaced, not kept" in caplog.text
    assert steps(tmp_path) == [(0, 10), (0, 30)]


def test_another_runs_checkpoints_stay_until_the_first_save(tmp_path):
    saved(CheckpointStore(tmp_path), 10, 20, run_id="old")
    store = CheckpointStore(tmp_path)
    store.save(state(10, "new"))
    assert sorted(load(tmp_path / name)["qgface"]["run_id"] for name in names(tmp_path)) == ["new", "old", "old"]
    store.prune("new")
    assert names(tmp_path) == ["checkpoint_gpu_0.pt"] and load(store.latest)["qgface"]["run_id"] == "new"


def test_files_of_ranks_that_are_gone_leave_with_their_set(tmp_path):
    for rank in range(4):
        saved(CheckpointStore(tmp_path, rank, 4), 10)
    left = tmp_path / "checkpoint_gpu_3.pt.77.0123abcd.part"
    left.write_bytes(b"from a kill")
    stores = [CheckpointStore(tmp_path, rank, 2) for rank in range(2)]
    for store in stores:
        store.go_on_from(10)
        saved(store, 20)
    assert steps(tmp_path) == [(0, 10), (0, 20), (1, 10), (1, 20), (2, 10), (3, 10)]
    assert not left.exists()
    for store in stores:
        saved(store, 30)
    assert steps(tmp_path) == [(0, 20), (0, 30), (1, 20), (1, 30)]


def test_a_strange_file_does_not_stop_a_run_that_saves(tmp_path, caplog):
    store = CheckpointStore(tmp_path, keep=1)
    torch.save({"weight": torch.ones(1)}, tmp_path / "checkpoint_gpu_0.3.pt")
    with caplog.at_level(logging.WARNING, logger="qgface_plugin"):
        saved(store, 10, 20)
    assert "is no training checkpoint" in caplog.text and "no older checkpoint is removed" in caplog.text
    (tmp_path / "checkpoint_gpu_0.3.pt").unlink()
    saved(store, 30)
    assert steps(tmp_path) == [(0, 30)]


# sets


def test_only_complete_sets_count():
    def entry(rank, step, ranks, run_id="a"):
        return Entry(Path(f"{rank}.{step}"), rank, step, ranks, run_id)

    found = [entry(0, 30, 2), entry(0, 20, 2), entry(1, 20, 2), entry(0, 10, 1), entry(1, 10, 3), entry(2, 10, 3)]
    assert complete_sets(found) == [CheckpointSet(20, 2, "a"), CheckpointSet(10, 1, "a")]
    found += [entry(0, 5, 1, "b"), entry(0, 7, None, None)]
    assert complete_sets(found, "b")[0] == CheckpointSet(5, 1, "b") and complete_sets(found, "a")[0].step == 20


def test_files_that_are_no_checkpoint_of_ours(tmp_path):
    store = CheckpointStore(tmp_path)
    foreign = {key: value for key, value in state(10).items() if key != "qgface"}
    torch.save(foreign, store.latest)  # as arcface_torch writes it
    assert entries(tmp_path) == ([Entry(store.latest, 0, 10, None, None)], [])
    torch.save({"weight": torch.ones(1)}, store.latest)
    with pytest.raises(CheckpointError, match="lacks epoch, global_step"):
        entries(tmp_path)
    save(store.latest, {**state(10), "qgface": {"format": FORMAT + 1}})
    with pytest.raises(CheckpointError, match="later than this version's"):
        entries(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        ("global_step", None),
        ("world_size", "4"),
        ("world_size", 0),
        ("run_id", 3),
        ("qgface", []),
        ("rank", "0"),
        ("bad_in_a_row", torch.ones(2)),
    ],
)
def test_heads_that_no_run_writes_are_refused(tmp_path, change):
    key, value = change
    found = state(10)
    (found if key in found else found["qgface"])[key] = value
    save(tmp_path / "checkpoint_gpu_0.pt", found)
    with pytest.raises(CheckpointError, match="its step, its ranks or its run"):
        entries(tmp_path)


def test_a_set_of_any_number_of_ranks_costs_no_memory(tmp_path):
    found = [Entry(Path("0"), 0, 10, 1 << 60, "a")]
    assert complete_sets(found) == []


def test_mistakes_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="missing: state_optimizer"):
        CheckpointStore(tmp_path).save({k: v for k, v in state(1).items() if k != "state_optimizer"})
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointStore(tmp_path, keep=0)


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
        files,
        "open",
        lambda path, mode, **_: FullDisk(open(path, mode), room) if "w" in mode else open(path, mode),
        raising=False,
    )
    with pytest.raises(CheckpointError, match="No space left on device; the one saved before is whole"):
        store.save(state(20))
    assert names(tmp_path) == ["checkpoint_gpu_0.pt"]
    assert steps(tmp_path) == [(0, 10)]
    with pytest.raises(CheckpointError, match="none saved before"):
        save(tmp_path / "other.pt", {**state(1), "more": torch.ones(100)})
    monkeypatch.undo()
    store.save(state(30))
    assert names(tmp_path) == ["checkpoint_gpu_0.10.pt", "checkpoint_gpu_0.pt"]


def python(code: str, folder: Path) -> subprocess.CompletedProcess:
    """Run `code` in a process of its own, with a `store` in `folder` and a `state(step)` of 400 kB."""
    head = "import os, sys, torch; sys.path.insert(0, sys.argv[2])\n"
    head += "from qgface_plugin.training.checkpoints import store as s\n"
    head += "from qgface_plugin.utils import files as f, torch_files as c\n"
    head += f"state = lambda step: {{**dict.fromkeys({KEYS!r}, 1), 'global_step': step, 'w': torch.ones(100_000)}}\n"
    head += "store = s.CheckpointStore(sys.argv[1])\n"
    root = ROOT
    command = [sys.executable, "-c", head + code, str(folder), str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_file_size_limit_of_the_system(tmp_path):
    pytest.importorskip("resource")
    saved(CheckpointStore(tmp_path), 10)
    done = python(
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000,) * 2); store.save(state(20))", tmp_path
    )
    assert done.returncode == 1
    assert "could not be saved: File too large; the one saved before is whole" in done.stderr
    assert names(tmp_path) == ["checkpoint_gpu_0.pt"] and steps(tmp_path) == [(0, 10)]


@pytest.mark.parametrize("where", ["c.seal", "f.os.replace", "s.os.link", "f._sync_folder"])
def test_killed_while_saving(tmp_path, where):
    saved(CheckpointStore(tmp_path), 10)
    done = python(f"{where} = lambda *a: os._exit(9)\nstore.save(state(20))", tmp_path)
    assert done.returncode == 9
    assert [step for _, step in steps(tmp_path)][-1] == (20 if where == "f._sync_folder" else 10)
    assert (0, 10) in steps(tmp_path)
    assert any(meant == "checkpoint_gpu_0.pt" for _, meant in leftovers(tmp_path)) == (where != "f._sync_folder")
    saved(CheckpointStore(tmp_path), 30)  # what the kill left behind is in nobody's way
    assert steps(tmp_path)[-1] == (0, 30) and not list(leftovers(tmp_path))


@pytest.mark.long
def test_a_full_file_system(tmp_path):
    """A real one, of 300 kB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        store = CheckpointStore(disk)
        store.save({**state(10), "w": torch.ones(40_000)})
        for _ in range(3):
            with pytest.raises(CheckpointError, match="No space left on device; the one saved before is whole"):
                store.save({**state(20), "w": torch.ones(40_000)})
            assert names(disk) == ["checkpoint_gpu_0.pt"] and steps(disk) == [(0, 10)]
        saved(store, 30)
        assert steps(disk) == [(0, 10), (0, 30)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)

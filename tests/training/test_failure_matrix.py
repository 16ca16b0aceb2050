"""Two ranks, of which one fails: which one, at which moment, in which way; all end in bounded time and say why."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from crashes import LAUNCHER, ROOT, environment, recipe

STRIKE = """
import os, signal, time
import torch
from qgface_plugin.data.pair_dataset import PairDataset
from qgface_plugin.data.sources import records
from qgface_plugin.training import build, verification
from qgface_plugin.training.checkpoints import store
from qgface_plugin.training.step import TrainStep
from qgface_plugin.training.trainer import Trainer
from qgface_plugin.utils.errors import DataError
def strike(owner, name, number):
    original, calls = getattr(owner, name), []
    def struck(*arguments, **options):
        calls.append(1)
        if os.environ["RANK"] == "{rank}" and len(calls) == number:
            open({mark!r}, "w").close()
            {fault}
        return original(*arguments, **options)
    setattr(owner, name, struck)
def soon(original):  # a rank that waits for another one gives up after seconds, not half an hour
    import datetime
    return lambda *a, **k: original(*a, timeout=datetime.timedelta(seconds=5), **k)
if {soon}:
    torch.distributed.init_process_group = soon(torch.distributed.init_process_group)
{place}
"""
PLACES = {  # what is struck
    "opening": "strike(records.FaceRecords, 'check', 1)",
    "building": "strike(build, 'make_backbone', 1)",
    "before the first step": "strike(PairDataset, '__getitems__', 1)",
    "step": "strike(TrainStep, '__call__', 4)",
    "saving": "strike(store.CheckpointStore, 'save', 1)",
    "verifying": "strike(Trainer, 'verify', 1)",
}
FAULTS = {
    "exception": "raise DataError('x.rec: bad')",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "hang": "time.sleep(600)",
}
UNTRAINED = ("opening", "building", "before the first step")
WITHOUT_LIMIT = ("opening", "verifying")  # others wait there as long as it takes: data can be read for hours
QUICK = [(1, "building", "exception")]
CASES = [(rank, place, fault) for rank in (0, 1) for place in PLACES for fault in FAULTS]


def run(folder: Path, rank: int, place: str, fault: str) -> tuple[str, float]:
    """What two ranks have said on standard error, and after how many seconds since the fault they had ended."""
    mark = folder / "struck"
    waits = fault == "hang" and place in WITHOUT_LIMIT
    code = STRIKE.format(
        rank=rank, mark=str(mark), fault=FAULTS[fault], place=PLACES[place], soon=fault == "hang" and not waits
    )
    path = recipe(folder, "run", extra=code)
    command = [*LAUNCHER, "--nproc_per_node=2", "train_v2.py", str(path)]
    started = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 90
    while not mark.exists() and started.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert mark.exists(), started.communicate(timeout=60)[1]
    if waits:
        time.sleep(1.0)
        started.send_signal(signal.SIGTERM)  # what a person does
    struck = time.monotonic()
    said = started.communicate(timeout=120)[1]
    assert started.returncode != 0, said
    return said, time.monotonic() - struck


@pytest.mark.parametrize(
    ("rank", "place", "fault"), [pytest.param(*case, marks=() if case in QUICK else pytest.mark.long) for case in CASES]
)
def test_all_end_in_bounded_time_and_say_why(tmp_path, rank, place, fault):
    said, seconds = run(tmp_path, rank, place, fault)
    assert seconds < 90, said  # on a machine that is busy
    waits = fault == "hang" and place in WITHOUT_LIMIT
    reason = {
        "exception": r"x\.rec: bad",
        "kill": rf"rank\(s\) {rank} of 2 ended without",
        "SIGTERM": "SIGTERM: stopped",
        "hang": "SIGTERM" if waits else "one of them did not come",
    }[fault]
    assert re.search(reason, said), said
    if fault == "exception":
        assert f"rank {rank} on " in said, said  # by the other one
    lines = said.partition("torch/distributed/elastic")[0]
    assert "Traceback" not in lines, said
    output = tmp_path / "run"
    assert not (output / "run.lock").exists() or rank == 0 and fault in ("kill", "hang")
    log = output / "training.log"
    if place in UNTRAINED:  # there is no run yet: no file that would say there was one
        assert not (output / "recipe.json").exists() and not (output / "run.json").exists()
    if log.exists() and not (rank == 0 and fault in ("kill", "hang")) and not waits:
        text = log.read_text()
        assert re.search(f"training stopped: .*{reason}|{reason}", text), text
    elif place not in UNTRAINED and rank == 1 and not waits:
        pytest.fail("rank 0 has written no training.log")

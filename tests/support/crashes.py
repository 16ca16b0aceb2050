"""Runs of train_v2.py whose processes kill themselves at chosen moments, for the crash tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from paths import ROOT
from tiny import TIMES

LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--monitor-interval=0.1")
RECIPE = """
from easydict import EasyDict as edict
config = edict(network="quick", embedding_size=16, rec={rec!r}, output={out!r}, batch_size=4, num_epoch=2, lr=0.05,
               num_workers=0, frequent=3, val_targets=["procedural_dev"], sample_rate=0.6, gradient_acc=2)
config.qgface = edict(data=edict(source="procedural", identities=5, images_per_identity=8, pairs=20))
config.qgface.queue_size = 30
config.qgface.train = edict(threads=1, checkpoint_every=3)
"""
FAULTS = """
import os, signal, threading, time
import torch
from qgface_plugin.training.checkpoints import store
from qgface_plugin.utils import files, torch_files
from qgface_plugin.loss.partial_fc import QGPartialFC

def kill_at(owner, name, number):
    original, calls = getattr(owner, name), []
    def struck(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    setattr(owner, name, struck)

def kill_after(seconds):
    original, started = QGPartialFC.forward, []
    def forward(self, *arguments):
        if not started:
            started.append(1)
            timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        return original(self, *arguments)
    QGPartialFC.forward = forward

PLACES = dict(forward=(QGPartialFC, "forward"), update=(torch.optim.SGD, "step"), write=(torch_files, "seal"),
              link=(os, "link"), replace=(files, "_sync_folder"), prune=(store.CheckpointStore, "prune"))
for restart, rank, place, number in {faults!r}:
    if (restart, rank) == (int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])):
        if place == "time":
            kill_after(number)
        else:
            kill_at(*PLACES[place], number)
"""
Fault = tuple[
    int, int, str, float
]  # in the life of start number .., on rank .., at the place .., at its call number ..


def environment() -> dict[str, str]:
    """Of the processes: this checkout's package, one thread, no data or host from outside."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name in ("DATA_ROOT", "ARCFACE_TORCH"):
        environ.pop(name, None)
    return environ


def recipe(folder: Path, name: str, faults: list[Fault] = (), extra: str = "") -> Path:
    """A recipe that writes to `folder`/`name`, with the faults in it."""
    path = folder / f"{name}.py"
    text = RECIPE.format(rec=str(folder / "faces"), out=str(folder / name)) + extra
    path.write_text(text + (FAULTS.replace("{faults!r}", repr(list(faults))) if faults else ""))
    return path


def launch(path: Path, ranks: int = 2, restarts: int = 3) -> subprocess.CompletedProcess:
    """torchrun the recipe."""
    command = [*LAUNCHER, f"--nproc_per_node={ranks}", f"--max-restarts={restarts}", "train_v2.py", str(path)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)


def outcome(folder: Path, name: str, ranks: int = 2) -> dict:
    """What a run has come to: every rank's last checkpoint, model.pt, the log's numbers; without names and speeds."""
    found = {"model": torch.load(folder / name / "model.pt", weights_only=True)}
    for rank in range(ranks):
        state = torch.load(folder / name / f"checkpoint_gpu_{rank}.pt", weights_only=True)
        del state["qgface"]["run_id"], state["qgface"]["recipe"]
        found[f"rank {rank}"] = state
    lines = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
    found["lines"] = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return found

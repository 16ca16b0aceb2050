"""Checks of the acceptance on two GPUs: NCCL against gloo, one rank's exception, two ranks' run on one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from ...data.procedural.dataset import write_dataset
from .check import Check, Found, Place, Skipped
from .resuming import _losses

RECIPE = """
from easydict import EasyDict as edict

config = edict(rec={rec!r}, output={output!r}, network="quick", embedding_size=32, batch_size={batch}, num_epoch=3,
               lr=0.02, num_workers=0, frequent=1, seed=3, val_targets=[], resume={resume})
config.qgface = edict(train=edict(device={device!r}, max_steps={steps}, pair_grid_every=0))
{more}
"""
# After some steps one rank raises, as a fault of its own would.
FAULT = """
import os, time
from qgface_plugin.training.step import TrainStep
call = TrainStep.__call__
def failing(self, batch, number):
    if number == 4 and os.environ.get("RANK") == "1":
        open("when", "w").write(str(time.time()))
        raise ValueError("the fault of rank 1")
    return call(self, batch, number)
TrainStep.__call__ = failing
"""


def _run(place: Place, output: Path, ranks: int, seconds: float = 90, **changes: object) -> subprocess.CompletedProcess:
    """A run on as many ranks; batches together are 16."""
    settings = dict(device="cuda", steps=8, resume=False, more="")
    write_dataset(place.folder / "faces", 16, 4, 20, 0)
    recipe = place.folder / f"{output.name}_{ranks}.py"
    given = {**settings, **changes}
    recipe.write_text(RECIPE.format(rec=str(place.folder / "faces"), output=str(output), batch=16 // ranks, **given))
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *torchrun, "-m", "qgface_plugin", "train", str(recipe)]
    environ = {key: value for key, value in os.environ.items() if key not in ("DATA_ROOT", "ARCFACE_TORCH")}
    environ["OMP_NUM_THREADS"] = "2"
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=seconds, cwd=place.folder)


def _needs_two(place: Place) -> None:
    if torch.cuda.device_count() < 2 and not place.small:
        raise Skipped(f"{torch.cuda.device_count()} GPU: this needs two")


def backends(place: Place) -> Found:
    _needs_two(place)
    for name in ("cuda", "cpu") if not place.small else ("cpu",):
        done = _run(place, place.folder / name, 2, device=name)
        if done.returncode:
            return Found(False, f"{name}: {done.stderr.strip()[-300:]}")
    one, other = _losses(place.folder / ("cpu" if place.small else "cuda")), _losses(place.folder / "cpu")
    error = max(abs(one[step] - other[step]) / abs(other[step]) for step in other)
    return Found(error <= 1e-3, f"losses differ by {error:.1e}", {"nccl": one, "gloo": other})


def one_fails(place: Place) -> Found:
    _needs_two(place)
    try:
        done = _run(place, place.folder / "fails", 2, more=FAULT, device="cpu" if place.small else "cuda")
    except subprocess.TimeoutExpired:
        return Found(False, "it had not ended after 90 s")
    if not (place.folder / "when").exists():
        return Found(False, f"it ended before the fault: {done.stderr.strip()[-300:]}")
    seconds = time.time() - float((place.folder / "when").read_text())
    named = "the fault of rank 1" in done.stderr + done.stdout
    said = f"ended after {seconds:.0f} s, {'and says' if named else 'but does not say'} why"
    return Found(done.returncode != 0 and named and seconds <= 30, said, {"seconds": seconds})


def on_one(place: Place) -> Found:
    _needs_two(place)
    output, device = place.folder / "moves", "cpu" if place.small else "cuda"
    for ranks, steps, resume in ((2, 4, False), (1, 8, True)):
        done = _run(place, output, ranks, steps=steps, resume=resume, device=device)
        if done.returncode:
            return Found(False, f"{ranks} rank(s): {done.stderr.strip()[-300:]}")
    losses = _losses(output)
    return Found(max(losses) == 8, f"steps to {max(losses)}, loss {losses[max(losses)]:.2f}", {"losses": losses})


CHECKS = [
    Check("two GPUs: NCCL against gloo", "losses within 1e-3", backends, 120),
    Check("two GPUs: one rank fails", "the run ends within 30 s, and says why", one_fails, 100),
    Check("two GPUs: resumed on one", "it goes on to its last step", on_one, 120),
]

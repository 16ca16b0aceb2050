"""Running train_v2.py in a checkout, as a user does: our own miniature, or the real one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT, TESTS

MINI = TESTS / "mini_host"
RECIPE = """
from easydict import EasyDict as edict
config = edict(network="r18", embedding_size=8, rec="data", batch_size=8, num_epoch=2, lr=0.05, num_workers=0,
               frequent=2, val_targets=["dev"], verbose=6)
config.qgface = edict(b=0.5, train=edict(features_bias=False, pair_grid_every=5, threads=1))
"""


def copy_of(checkout: Path, folder: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns("__pycache__", ".git")))


def real_checkout() -> Path:
    """The checkout that ARCFACE_TORCH names; skips without."""
    named = os.environ.get("ARCFACE_TORCH")
    if not named:
        pytest.skip("ARCFACE_TORCH names no arcface_torch checkout")
    return Path(named).resolve()


def write_recipe(folder: Path, name: str, extra: str = "", recipe: str = RECIPE) -> Path:
    path = folder / f"{name}.py"
    path.write_text(recipe + extra)
    return path


def environment(**environ: str) -> dict[str, str]:
    """A process of its own: one rank, one thread, a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    clean = {key: value for key, value in os.environ.items() if key not in ("DATA_ROOT", "ARCFACE_TORCH")}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    one = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return {**clean, **one, **ranks, **environ}


def run(*arguments: object, cwd: Path, limit: int = 300, **environ: str) -> subprocess.CompletedProcess[str]:
    """python ARGUMENTS in the folder `cwd`, for `limit` seconds at most."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(**environ), capture_output=True, text=True, timeout=limit)


def metrics(folder: Path) -> list[dict]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "train"]

"""Several hosts: two torchrun agents that meet at one rendezvous train what one host with two ranks trains."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT
from recipe_runs import losses, quick_recipe


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def agent(folder: Path, name: str, *options: str) -> subprocess.Popen[str]:
    """torchrun with `options` on the recipe `name`, in a process of its own."""
    environ = {key: value for key, value in os.environ.items() if key not in ("DATA_ROOT", "ARCFACE_TORCH")}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", *options, "train_v2.py", str(folder / f"{name}.py")]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*agents: subprocess.Popen[str]) -> None:
    try:
        for each in agents:
            printed, _ = each.communicate(timeout=240)
            assert each.returncode == 0, printed
    finally:
        for each in agents:
            each.kill()


@pytest.mark.parametrize("rendezvous", ["c10d", pytest.param("static", marks=pytest.mark.long)])
def test_two_hosts_train_what_one_does(tmp_path, rendezvous):
    """Bit for bit: the same two ranks, wherever they run. The commands are those of docs/ranks.md."""
    for name in ("one_host", "two_hosts"):
        quick_recipe(tmp_path, name, batch=4, extra="config.val_targets = []\nconfig.sample_rate = 0.5\n")
    finish(agent(tmp_path, "one_host", "--standalone", "--nproc_per_node=2"))
    port = free_port()
    shared = ["--nnodes=2", "--nproc_per_node=1"]
    if rendezvous == "c10d":
        shared += ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}", "--rdzv_id=qgface"]
        hosts = [[*shared], [*shared]]
    else:
        shared += ["--master_addr=127.0.0.1", f"--master_port={port}"]
        hosts = [[*shared, "--node_rank=0"], [*shared, "--node_rank=1"]]
    finish(*(agent(tmp_path, "two_hosts", *options) for options in hosts))
    one, two = tmp_path / "one_host", tmp_path / "two_hosts"
    assert len(losses(one)) == 5 and losses(one) == losses(two)
    for name in ("model.pt", "checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt"):
        ours, theirs = torch.load(one / name, weights_only=True), torch.load(two / name, weights_only=True)
        for part in (None,) if name == "model.pt" else ("state_dict_backbone", "state_dict_softmax_fc"):
            ours_part, theirs_part = (saved if part is None else saved[part] for saved in (ours, theirs))
            assert ours_part.keys() == theirs_part.keys()
            assert all(torch.equal(value, theirs_part[key]) for key, value in ours_part.items()), part

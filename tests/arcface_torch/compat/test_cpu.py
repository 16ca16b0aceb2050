"""A loop written for CUDA and NCCL on a machine without a GPU: each replacement, and a small loop of two processes."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from compat_tools import importing_from, write_checkout
from paths import ROOT
from torch import nn

from qgface_plugin.arcface_torch.compat import cpu

SAMPLER = """
def sync_random_seed(seed=None, device="cuda"):
    import torch
    from torch import distributed
    seed = torch.tensor(seed, device=device)
    distributed.broadcast(seed, src=0)
    return int(seed)
"""

TRAIN = """
import sys
from pathlib import Path
from qgface_plugin.arcface_torch import compat
assert "CPU in the place of CUDA" in [repair.name for repair in compat.apply(Path(sys.argv[1]))]
sys.path.insert(0, sys.argv[1])
import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from utils.utils_distributed_sampler import sync_random_seed

distributed.init_process_group("nccl")
rank = distributed.get_rank()
torch.cuda.set_device(rank)
assert sync_random_seed(7 + rank) == 7
stream = torch.cuda.Stream(rank)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(
    module=torch.nn.Linear(3, 1, bias=False).cuda(), device_ids=[rank], bucket_cap_mb=16, find_unused_parameters=True)
model.register_comm_hook(None, fp16_compress_hook)
model._set_static_graph()
with torch.cuda.stream(stream):
    images = torch.full((2, 3), float(rank + 1)).to(device=rank, non_blocking=True)
torch.cuda.current_stream().wait_stream(stream)
scaler = torch.cuda.amp.grad_scaler.GradScaler(growth_interval=100)
with torch.cuda.amp.autocast(True):
    loss = model(images).sum()
scaler.scale(loss).backward()
assert model.module.weight.grad.tolist() == [[3.0, 3.0, 3.0]], model.module.weight.grad  # mean of 2 and 4
if rank == 0:
    torch.save(model.module.state_dict(), sys.argv[1] + "/model.pt")
distributed.barrier()
assert torch.load(sys.argv[1] + "/model.pt")["weight"].shape == (1, 3)
distributed.destroy_process_group()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    more = {"utils/__init__": "", "utils/utils_distributed_sampler": SAMPLER}
    return write_checkout(tmp_path, more, partial_fc_v2="x = x.cuda()\n").resolve()


@pytest.fixture
def repaired(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    for owner, name, _ in cpu.REPLACEMENTS:
        monkeypatch.setattr(owner, name, getattr(owner, name))  # to be put back
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with importing_from(checkout):
        cpu.repair(checkout).apply()
        yield checkout


def test_needed_without_a_gpu_only(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not cpu.repair(checkout).needed()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cpu.repair(checkout).needed()
    assert not cpu.repair(write_checkout(tmp_path / "other")).needed()


def test_once_applied_it_is_not_needed(repaired: Path) -> None:
    assert not cpu.repair(repaired).needed()


def test_a_second_checkout_gets_what_is_its_own(repaired: Path, tmp_path: Path) -> None:
    more = {"utils/__init__": "", "utils/utils_distributed_sampler": SAMPLER}
    repair, to = cpu.repair(write_checkout(tmp_path / "second", more)), torch.Tensor.to
    assert repair.needed()
    repair.apply()
    assert not repair.needed() and torch.Tensor.to is to


def test_everything_is_put_back_after_a_test() -> None:
    assert not hasattr(torch.Tensor.cuda, "replaces") and not hasattr(torch.load, "replaces")


def test_cuda_is_the_tensor_itself(repaired: Path) -> None:
    values, layer = torch.ones(2), nn.Linear(2, 2)
    assert values.cuda() is values and values.cuda(0, non_blocking=True) is values and layer.cuda() is layer


@pytest.mark.parametrize("device", [0, 3, "cuda", "cuda:1", torch.device("cuda", 0)])
def test_moves_to_a_gpu_stay_on_the_cpu(repaired: Path, device: object) -> None:
    values = torch.ones(2)
    assert values.to(device).device.type == "cpu" and values.to(device=device, non_blocking=True).device.type == "cpu"
    assert values.to(device, torch.float64).dtype == torch.float64


def test_other_moves_are_as_before(repaired: Path) -> None:
    values = torch.ones(2)
    assert values.to(torch.float64).dtype == torch.float64 and values.to("meta").device.type == "meta"
    assert values.to(torch.zeros(1, dtype=torch.int64)).dtype == torch.int64
    assert nn.Linear(2, 2).to(dtype=torch.float64).weight.dtype == torch.float64
    assert torch.Tensor.to.__name__ == "to" and torch.Tensor.to.replaces is not torch.Tensor.to


def test_weights_saved_anywhere_load_on_the_cpu(repaired: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.ones(2)}, repaired / "model.pt")
    assert torch.load(repaired / "model.pt")["w"].tolist() == [1, 1]
    assert torch.load(repaired / "model.pt", map_location="meta")["w"].device.type == "meta"
    seen = []
    load = cpu._load(lambda f, map_location, **options: seen.append((map_location, options)))
    load("f", weights_only=True)
    load("f", None)
    assert seen == [("cpu", {"weights_only": True}), (None, {})]


def warnings_of_a_gpu_script() -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        loader = torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2, pin_memory=True)
        assert len(list(loader)) == 2
        with torch.autocast("cuda", enabled=True):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        torch.amp.GradScaler("cuda")
    return [str(warning.message) for warning in seen]


def test_pinned_memory_and_fp16_do_not_warn() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: torch does not warn")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        expected = 3 if torch.__version__ >= "2.8" else 2  # before, memory that is not pinned is not mentioned
        assert len(warnings_of_a_gpu_script()) >= expected
        cpu.silence()
        assert warnings_of_a_gpu_script() == []


def test_two_processes_train_over_gloo(checkout: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: the repair does not apply")
    script = checkout / "train.py"
    script.write_text(TRAIN)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script, checkout],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]

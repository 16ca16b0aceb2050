"""A checkout's float16 scaler on two ranks of which one has a gradient that is not finite."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.multiprocessing as mp

from qgface_plugin.arcface_torch.criterion import agree_on_overflows


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    found = {}
    for agreed in (False, True):
        if agreed:
            agree_on_overflows()
            agree_on_overflows()  # once is enough, twice does no harm
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=100)
        for number in range(2):
            loss = weight.sum() * (float("inf") if rank and not number else 1.0)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        found[agreed] = [float(weight[0].detach()), scaler.get_scale()]
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_ranks_skip_a_step_together(tmp_path: Path):
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one[False] == [-1.0, 4.0] and other[False] == [0.0, 2.0]  # what a checkout does by itself
    assert one[True] == other[True] == [0.0, 2.0]

"""Checkpoints of commit 73bceb5 and the losses that its code went on to: how they were made.

Run once, with that commit's code:

    git worktree add OLD 73bceb5
    cd OLD && PYTHONPATH=.:tests OMP_NUM_THREADS=1 python ../tests/data/checkpoint_73bceb5/make.py

`one_rank/` was saved between two updates of the weights (gradient_acc), with a momentum encoder and half a line of the
log pending. `two_ranks/` was saved by two ranks over sampled classes and continued by one. Per folder: what the run
left behind, and `went_on.json`, the lines of metrics.jsonl of the rest of the run.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.multiprocessing as mp
from qgface_plugin.data.pairs import PairBatch
from qgface_plugin.hosts import parts
from qgface_plugin.hosts.builtin import train
from qgface_plugin.hosts.step import TrainStep
from qgface_plugin.options import TrainOptions
from qgface_plugin.run import Run
from tiny import TIMES, tiny_model, tiny_run, write_faces

from qgface_plugin.config import QGFaceConfig

HERE, STOP = Path(__file__).resolve().parent, 5
KEPT = ("checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "metrics.jsonl", "run.json")
RUNS = {  # fields of Run; paths are relative, so that no machine's are in the checkpoint
    "one_rank": dict(
        batch_size=12, optimizer="adamw", lr=0.003, gradient_acc=2, frequent=2, val_targets=("dev",), verbose=4,
        qgface=QGFaceConfig(queue="momentum", b_quantile=0.5),
    ),
    "two_ranks": dict(
        batch_size=6, warmup_epoch=1, sample_rate=0.5, frequent=2,
        qgface=QGFaceConfig(queue="proxy", queue_size=40, b=0.4),
    ),
}  # fmt: skip


def a_run(name: str) -> Run:
    return replace(tiny_run(Path("."), **RUNS[name]), rec="data", output=name)


def save_on(rank: int, ranks: int, name: str) -> None:
    torch.set_num_threads(1)
    parts.get_model = tiny_model
    if ranks > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{Path.cwd()}/group", rank=rank, world_size=ranks
        )
    step = TrainStep.__call__

    def end_after_the_checkpoint(self: TrainStep, batch: PairBatch, global_step: int) -> bool:
        if global_step > STOP:
            raise KeyboardInterrupt
        return step(self, batch, global_step)

    TrainStep.__call__ = end_after_the_checkpoint
    with suppress(KeyboardInterrupt):
        train(replace(a_run(name), train=TrainOptions(checkpoint_every=STOP)))
    TrainStep.__call__ = step
    if ranks > 1:
        torch.distributed.destroy_process_group()


def main() -> None:
    os.chdir(tempfile.mkdtemp())
    torch.set_num_threads(1)
    parts.get_model = tiny_model
    write_faces(Path("data"))
    save_on(0, 1, "one_rank")
    mp.spawn(save_on, args=(2, "two_ranks"), nprocs=2)
    for name in RUNS:
        target = HERE / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for file in KEPT:
            if (Path(name) / file).exists():
                shutil.copy(Path(name) / file, target / file)
        run = a_run(name)
        ranks = 2 if name == "two_ranks" else 1
        train(replace(run, batch_size=run.batch_size * ranks, resume=True))
        lines = [json.loads(line) for line in (Path(name) / "metrics.jsonl").read_text().splitlines()]
        went_on = [{k: v for k, v in line.items() if k not in TIMES} for line in lines if line["step"] > STOP]
        (target / "went_on.json").write_text("[\n" + ",\n".join(map(json.dumps, went_on)) + "\n]\n")


if __name__ == "__main__":
    main()

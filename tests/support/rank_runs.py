"""A run of any number of gloo ranks on the same global batches: a DDP backbone, the criterion, SGD on both."""

from __future__ import annotations

from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.loss import class_sampling
from qgface_plugin.utils import distributed

PAIRS, INPUTS, DIM, CLASSES, BLOCK = 12, 6, 4, 11, 3  # 11 classes: no number of ranks divides them; nor blocks fit
BASE = {"b": 0.45, "s": 12.0, "stats_momentum": 0.3, "queue_size": 60}  # 24 rows a step: past the wrap from step 3 on
Case = namedtuple("Case", "options sample_rate accumulate dtype", defaults=({}, 1.0, 1, torch.float64))


def global_batch(step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Inputs of the originals, then of the degraded views (24, INPUTS); labels. Every third step has few classes."""
    rng = np.random.default_rng(step)
    inputs = torch.from_numpy(rng.normal(size=(2 * PAIRS, INPUTS))).to(dtype)
    return inputs, torch.from_numpy(rng.integers(0, 3 if step % 3 == 2 else CLASSES, PAIRS)).repeat(2)


def make_criterion(case: Case) -> QGPartialFC:
    """The criterion with the same centres for any number of ranks."""
    margin = QGFaceMargin.from_config(QGFaceConfig.from_mapping(BASE | case.options))
    out = QGPartialFC(margin, DIM, CLASSES, case.sample_rate, sample_seed=8).to(case.dtype)
    centres = torch.from_numpy(np.random.default_rng(99).normal(size=(CLASSES, DIM)))
    if not len(out.weight):
        return out  # without classification
    with torch.no_grad():
        out.weight.copy_(centres[out.class_start :][: out.num_local])
    return out


def train(case: Case, steps: int) -> dict:
    """`steps` steps of this rank: loss and gradients of each, live entries and weights at the end."""
    torch.manual_seed(0)
    backbone, criterion = nn.Linear(INPUTS, DIM).to(case.dtype), make_criterion(case)
    model = DistributedDataParallel(backbone) if distributed.world_size() > 1 else backbone
    parameters = [p for module in (backbone, criterion) for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    out: dict = {"losses": [], "backbone": [], "centres": [], "touched": []}
    for step in range(1, steps + 1):
        inputs, labels = (distributed.own_rows(x) for x in global_batch(step, case.dtype))
        with model.no_sync() if model is not backbone and step % case.accumulate else nullcontext():
            given = inputs[:, 0].detach() if criterion.margin_softmax.source.given else None
            taught = inputs[: len(inputs) // 2, -DIM:] if criterion.needs_teacher else None
            loss = criterion(model(inputs), labels, None, given, taught)
            loss.backward()
        out["losses"].append(loss.detach())
        gradient = criterion.weight.grad
        out["centres"].append(torch.ones(criterion.num_local, DIM) if gradient is None else gradient.clone())
        if step % case.accumulate == 0:
            out["backbone"].append(backbone.weight.grad.clone())
            optimizer.step()
            optimizer.zero_grad()
    queue, start = criterion.queue, criterion.class_start
    now = queue.refreshed(criterion.weight)
    alive = queue.alive().nonzero().squeeze(1).tolist()
    out["queue"] = [(int(queue.serial[i]), int(queue.labels[i]) + start, now[i]) for i in alive]
    out["weights"] = backbone.weight.detach().clone()
    margin = criterion.margin_softmax.state_dict()
    out["margin"] = torch.cat([value.reshape(1).to(case.dtype) for value in margin.values()])
    return out


class Spy(TorchDispatchMode):
    """What the process group is asked to do, however it is called: (operation, numbers that this rank sends)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            name = func._schema.name.split("::")[1]
            sent = args[1] if name == "allgather_" else args[0]  # of all-gather the second, of the others the first
            self.seen.append((name, max(leaf.numel() for leaf in tree_leaves(sent) if isinstance(leaf, Tensor))))
        return func(*args, **(kwargs or {}))


def collectives(classes: int, queue_size: int, **options) -> dict:
    """Collectives of the third step of the criterion alone, and R, the rows that passed the gates."""
    sample_rate = options.pop("sample_rate", 1.0)
    torch.manual_seed(0)
    margin = QGFaceMargin.from_config(QGFaceConfig.from_mapping(BASE | {"queue_size": queue_size} | options))
    criterion = QGPartialFC(margin, INPUTS, classes, sample_rate)
    for step in (1, 2, 3):
        inputs, labels = (distributed.own_rows(x) for x in global_batch(step, torch.float32))
        keys = inputs.clone() if criterion.config.queue == "momentum" else None
        with Spy() as spy:
            criterion(inputs.requires_grad_(), labels, keys).backward()
    terms, rows = criterion.terms, 2 * PAIRS
    classified = round(rows * (1 - float(terms["lq_share_view"])))
    contrasted = round(rows / 2 * float(terms["lq_share_pair"]))
    return {"seen": spy.seen, "classified": classified, "rows": classified + contrasted}


def _work(rank: int, counts: tuple[int, ...], cases: dict[str, Case], steps: int, folder: str) -> None:
    torch.set_num_threads(1)
    class_sampling.BLOCK = BLOCK
    for ranks in counts:
        if rank < ranks:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{folder}/group{ranks}", rank=rank, world_size=ranks
            )
            results: dict = {name: train(case, steps) for name, case in cases.items()}
            if ranks > 1:
                results["few"], results["many"] = collectives(11, 60), collectives(1100, 6000)
                results["certain"] = collectives(11, 60, quality="certainty", margin="curricularface")
                results["momentum"] = collectives(11, 60, queue="momentum", stats_scope="rank", sample_rate=0.5)
            distributed.barrier()
            torch.distributed.destroy_process_group()
            torch.save(results, f"{folder}/{ranks}_{rank}.pt")


def run(counts: tuple[int, ...], cases: dict[str, Case], steps: int, folder: Path) -> dict[int, list[dict]]:
    """Results of each rank by number of ranks; `counts` in ascending order."""
    mp.spawn(_work, args=(counts, cases, steps, str(folder)), nprocs=max(counts))
    return {n: [torch.load(folder / f"{n}_{rank}.pt", weights_only=True) for rank in range(n)] for n in counts}

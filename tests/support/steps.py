"""Training steps small enough to compare all that they change, and steps that are not finite."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from tiny import TinyBackbone
from torch import nn

from qgface_plugin.data.pair_dataset import PairBatch
from qgface_plugin.loss.margin import QGFaceMargin
from qgface_plugin.loss.partial_fc import QGPartialFC
from qgface_plugin.models.momentum_encoder import MomentumEncoder
from qgface_plugin.training.step import TrainStep
from qgface_plugin.utils import distributed

CLASSES, DIM, PAIRS = 5, 8, 4
QUEUES = {"proxy": 40, "small": 6, "batch": None, "momentum": 40, "none": None}  # entries; "small" wraps within a step
TROUBLE = ["images", "embedding gradient", "centre gradient", "centres"]


class Backbone(TinyBackbone):
    """Wholly white images are NaN, so that one image spoils the statistics of the layer behind it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        white = (images == 1).flatten(1).all(1)[:, None, None, None]
        return super().forward(images.masked_fill(white, torch.nan))


def make_step(queue: str, accumulate: int = 1) -> TrainStep:
    torch.manual_seed(0)
    backbone = Backbone(DIM)
    options = {"queue": "proxy" if queue == "small" else queue, "queue_size": QUEUES[queue]}
    torch.manual_seed(1 + distributed.rank())
    criterion = QGPartialFC(QGFaceMargin(b=0.5), DIM, CLASSES, **options)
    parameters = [{"params": backbone.parameters()}, {"params": criterion.parameters()}]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    ranks = distributed.world_size()
    model = nn.parallel.DistributedDataParallel(backbone, broadcast_buffers=False) if ranks > 1 else backbone
    keys = MomentumEncoder(backbone, 0.9) if queue == "momentum" else None
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainStep(
        model, backbone, criterion, optimizer, scaler, keys, torch.device("cpu"), torch.float32, accumulate=accumulate
    )


def batch(number: int, white: bool = False) -> PairBatch:
    """This rank's pairs; `white`: the degraded view of the first of them is."""
    rng = np.random.default_rng((number, distributed.rank()))
    high, low = torch.from_numpy(rng.integers(0, 255, (2, PAIRS, 3, 112, 112), dtype=np.uint8))
    if white:
        low[0] = 255
    return PairBatch(high, low, torch.from_numpy(rng.integers(0, CLASSES, PAIRS)))


def state(step: TrainStep) -> dict:
    modules = {"backbone": step.backbone, "criterion": step.criterion, "optimizer": step.optimizer}
    modules |= {"key_encoder": step.key_encoder} if step.key_encoder is not None else {}
    queue = step.criterion.queue
    state = {name: copy.deepcopy(module.state_dict()) for name, module in modules.items()}
    return state | {"last_rows": None if queue is None else queue.last_rows}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and bool(torch.all((a == b) | (a.isnan() & b.isnan())))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def bad_step(step: TrainStep, trouble: str, number: int) -> bool:
    """One step that is not finite, by something on the last rank only."""
    here = distributed.rank() == distributed.world_size() - 1
    spoilt = {"embedding gradient": step.backbone.layer.weight, "centre gradient": step.criterion.weight}.get(trouble)
    hook = spoilt.register_hook(lambda gradient: gradient * torch.inf) if here and spoilt is not None else None
    if trouble == "centres" and here:
        step.criterion.weight.data[0, 0] = torch.nan
    try:
        return step(batch(number, white=here and trouble == "images"), number)
    finally:
        if hook is not None:
            hook.remove()


def history(queue: str, trouble: str, make: Callable = make_step) -> dict:
    """Three good steps, a bad one, a good one; against a run without the bad one."""
    step, plain = make(queue), make(queue)
    good = [each(batch(number), number) for number in (1, 2, 3) for each in (step, plain)]
    before = state(step)
    bad = bad_step(step, trouble, 4)
    out = {"good": good, "bad": bad, "restored": same(before, state(step)), "same_start": same(before, state(plain))}
    if trouble == "centres":  # nothing can bring these back
        return out | {"restored": step.criterion.weight.isnan().sum().item() <= 1, "goes_on": True}
    return out | {"goes_on": step(batch(5), 5) and plain(batch(5), 5) and same(state(step), state(plain))}


def check(result: dict) -> None:
    assert result["good"] == [True] * 6 and result["same_start"]
    assert result["bad"] is False and result["restored"] and result["goes_on"]

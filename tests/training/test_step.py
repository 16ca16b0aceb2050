"""Steps that are not finite, with both trainers: skipped on every rank, and nothing of them is left."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from tiny import TinyBackbone
from torch import nn

from qgface_plugin.arcface_torch.criterion import CheckoutPartialFC
from qgface_plugin.data.pair_dataset import PairBatch, concatenate, normalise
from qgface_plugin.loss.margin import QGFaceMargin
from qgface_plugin.loss.partial_fc import QGPartialFC
from qgface_plugin.models.momentum_encoder import MomentumEncoder
from qgface_plugin.training.step import TrainStep
from qgface_plugin.utils import distributed
from qgface_plugin.utils.errors import TrainingError

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


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("queue", QUEUES)
def test_a_skipped_step_leaves_nothing(queue, trouble):
    check(history(queue, trouble))


def test_a_good_step_changes_all_of_it():
    """So that the tests above compare what does change."""
    step = make_step("momentum")
    step(batch(1), 1)
    before = state(step)
    assert step(batch(2), 2)
    after = state(step)
    for part, name in (
        ("backbone", "norm.running_mean"), ("backbone", "layer.weight"), ("criterion", "weight"),
        ("criterion", "queue.serial"), ("criterion", "queue.residual"), ("key_encoder", "encoder.norm.running_mean"),
        ("criterion", "margin_softmax.quality.mean"),
    ):  # fmt: skip
        assert not same(before[part][name], after[part][name]), name


def test_gradients_collected_before_a_bad_step_are_dropped():
    step = make_step("proxy", accumulate=2)
    assert step(batch(1), 1)
    before = state(step)
    assert not bad_step(step, "embedding gradient", 2)
    assert same(before, state(step)) and step.backbone.layer.weight.grad is None
    assert step(batch(3), 3) and same(before["optimizer"], state(step)["optimizer"])


class CheckoutStep:
    """The loop of a checkout around CheckoutPartialFC, float32."""

    def __init__(self, queue: str) -> None:
        plain = make_step(queue)
        self.model, self.backbone, self.optimizer, self.key_encoder = plain.model, plain.backbone, plain.optimizer, None
        self.criterion = CheckoutPartialFC(plain.criterion.margin_softmax, DIM, CLASSES, queue_size=QUEUES[queue])
        self.criterion.load_state_dict(plain.criterion.state_dict())
        self.criterion.max_bad_steps = 2
        self.optimizer.param_groups[1]["params"] = [self.criterion.weight]
        self.criterion.watch(self.backbone, self.optimizer, scaled=False)

    def __call__(self, batch: PairBatch, global_step: int) -> bool:
        images, labels = concatenate(batch)
        loss = self.criterion(self.model(normalise(images)), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.backbone.parameters(), 5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.criterion.bad_in_a_row == 0


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("queue", ["proxy", "small"])
def test_a_checkouts_loop_skips_alike(queue, trouble, caplog):
    check(history(queue, trouble, CheckoutStep))
    assert f"the {'gradient' if 'grad' in trouble else 'loss'} is not finite; the step is skipped (1 in a row)" in (
        caplog.text
    )


@pytest.mark.parametrize("trouble", ["images", "embedding gradient"])
def test_a_checkouts_loop_stops_with_the_checkpoint_named(trouble, tmp_path):
    step = CheckoutStep("proxy")
    step.criterion.checkpoint = tmp_path / "checkpoint_gpu_0.pt"
    for name in ("none was saved yet", str(step.criterion.checkpoint)):
        assert step(batch(1), 1) and not bad_step(step, trouble, 2)  # a good step starts the count anew
        with pytest.raises(TrainingError, match=f"2 steps in a row .* checkpoint: {name}"):
            bad_step(step, trouble, 3)
        step.criterion.checkpoint.touch()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    results = {(queue, trouble): history(queue, trouble) for queue in ("proxy", "small") for trouble in TROUBLE}
    results |= {("checkout", trouble): history("small", trouble, CheckoutStep) for trouble in TROUBLE}
    torch.save(results | {("momentum", "images"): history("momentum", "images")}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_of_which_one_is_bad(tmp_path: Path):
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        for case, result in torch.load(tmp_path / f"{rank}.pt").items():
            try:
                check(result)
            except AssertionError:
                pytest.fail(f"rank {rank}, {case}: {result}")

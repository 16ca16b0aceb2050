"""Steps that are not finite, with both trainers: skipped on every rank, and nothing of them is left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from steps import CLASSES, DIM, QUEUES, TROUBLE, bad_step, batch, check, history, make_step, same, state

from qgface_plugin.arcface_torch.criterion import CheckoutPartialFC
from qgface_plugin.data.pair_dataset import PairBatch, concatenate, normalise
from qgface_plugin.utils.errors import TrainingError


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

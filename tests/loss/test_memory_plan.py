"""The plan against real buffers, real optimiser state and what the allocator saw; the table in the documentation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from checkouts import ROOT

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.benchmarks._plain_criteria import PlainArcFace
from qgface_plugin.benchmarks._side_by_side import extra_bytes
from qgface_plugin.loss import class_softmax, memory_plan
from qgface_plugin.loss.memory_plan import memory_table, plain_step, plan_memory
from qgface_plugin.utils import distributed
from qgface_plugin.utils.errors import ConfigError


def peak(step: Callable[[], None]) -> int:
    """The most bytes that a step holds beyond what is there before it, from the allocator's own record."""
    return extra_bytes(step, torch.device("cpu"))


def size(*tensors: torch.Tensor) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("queue_size", [None, 40])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_kept_is_what_the_plan_says(ranks, queue_size, optimizer, dtype, monkeypatch):
    """Built as the rank 0 of `ranks` has it; the step is then made on one rank."""
    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    criterion = QGPartialFC(QGFaceMargin(), 16, 100, 0.5, queue_size=queue_size).to(dtype)
    monkeypatch.undo()
    update = torch.optim.SGD(criterion.parameters(), 0.1, 0.9) if optimizer == "sgd" else None
    update = update or torch.optim.AdamW(criterion.parameters())
    criterion(torch.randn(8, 16, dtype=dtype), torch.arange(4).repeat(2)).backward()
    update.step()
    plan = plan_memory(100, ranks, 16, queue_size=queue_size, sample_rate=0.5, optimizer=optimizer, dtype=dtype, rows=8)
    assert plan.centres == size(criterion.weight) and plan.gradient == size(criterion.weight.grad)
    moments = [value for value in update.state[criterion.weight].values() if value.ndim]
    assert plan.optimizer == size(*moments)
    queue = criterion.queue
    assert plan.queue == size(queue.residual, queue.scale, queue.labels, queue.serial)
    left = size(*criterion.state_dict().values()) - plan.centres - plan.queue
    assert 0 < left <= 6 * 8  # nothing of any size is forgotten: counters and statistics only
    assert plan.state + plan.step == plan.total


@pytest.mark.parametrize(
    "classes, dim, pairs, sample_rate, queue_size",
    [
        (6000, 16, 64, 1.0, None),  # the logits are largest
        (6000, 128, 16, 1.0, None),  # the normalisation of the centres
        (6000, 128, 16, 0.1, None),  # the gradient of all centres
        (6000, 64, 96, 0.4, None),
        (6000, 64, 96, 0.0, None),  # only the classes of the batch
        (3000, 64, 96, 0.0, 9_000),
        (50, 32, 128, 1.0, 20_000),  # a block of the queue: its logits
        (50, 256, 32, 0.4, 40_000),  # and its features
    ],
)
def test_a_steps_peak_is_what_the_plan_says(classes, dim, pairs, sample_rate, queue_size):
    """With every row classified and every pair contrasted, from the allocator's own record."""
    torch.manual_seed(0)
    margin = QGFaceMargin(b=0.0, contrastive_gate="none")
    criterion = QGPartialFC(margin, dim, classes, sample_rate, queue_size=queue_size)
    features, labels = torch.randn(2 * pairs, dim), torch.randint(0, classes, (pairs,)).repeat(2)
    # after the step one slot is empty still, so that the others are listed
    entries = torch.randint(0, classes, (criterion.queue.size - 2 * pairs - 1,))
    criterion.queue.enqueue(torch.randn(len(entries), dim), entries, criterion.weight[entries])
    features.requires_grad_()
    highest = peak(lambda: criterion(features, labels).backward())
    plan = plan_memory(classes, 1, dim, queue_size=queue_size, sample_rate=sample_rate, rows=2 * pairs, cuda=False)
    found = highest - plan.gradient
    assert found <= plan.step * 1.05 and plan.step <= 1.25 * found, (found, plan.step)


def test_many_rows_and_classes_take_less_than_in_whole_matrices(monkeypatch):
    """2,000,000 classes on 8 ranks and 8,192 rows, each a sixteenth here and so the room for what is kept; all rows
    classified, all pairs contrasted. Planned in full too."""
    classes, dim, rows, room = 15_625, 32, 512, class_softmax.KEPT >> 8
    for module in (class_softmax, memory_plan):
        monkeypatch.setattr(module, "KEPT", room)
    criterion = QGPartialFC(QGFaceMargin(b=0.0, contrastive_gate="none"), dim, classes)
    entries = torch.arange(classes)
    criterion.queue.enqueue(torch.randn(classes, dim), entries, criterion.weight)
    features, labels = torch.randn(rows, dim, requires_grad=True), torch.randint(0, classes, (rows // 2,)).repeat(2)
    ours = peak(lambda: criterion(features, labels).backward()) - criterion.weight.nbytes
    plain = peak(lambda: PlainArcFace(dim, classes)(features, labels).backward()) - 2 * criterion.weight.nbytes
    assert plain_step(classes, 1, dim, rows) <= plain
    assert ours <= 1.05 * plan_memory(classes, 1, dim, rows=rows, cuda=False).step < plain / 4
    monkeypatch.undo()
    assert plan_memory(2_000_000, 8, rows=8192).step < plain_step(2_000_000, 8, 512, 8192) / 4


def test_state_is_about_twice_the_centres_without_optimiser():
    """Section 2.1 of the design: centres and queue; with 5/4 of the share on many ranks."""
    for ranks, factor in ((1, 2.0), (8, 2.25)):
        plan = plan_memory(360_232, ranks)
        assert (plan.centres + plan.queue) / plan.centres == pytest.approx(factor, rel=0.01)


def test_other_queues():
    assert plan_memory(100, queue="none").queue == 0
    assert plan_memory(100, 1, 8, queue="batch", rows=12).queue == 12 * (8 * 4 + 4 + 16)


def test_the_documentation_has_this_table():
    assert memory_table() in (ROOT / "docs" / "ranks.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"classes": 3, "ranks": 4}, "classes=3, ranks=4"),
        ({"classes": 3, "sample_rate": -0.1}, r"sample_rate=-0\.1"),
        ({"classes": 3, "optimizer": "lion"}, "optimizer is 'lion'"),
    ],
)
def test_numbers_that_make_no_sense(arguments, message):
    with pytest.raises(ConfigError, match=message):
        plan_memory(**arguments)

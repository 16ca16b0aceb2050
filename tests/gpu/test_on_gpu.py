"""What only a GPU shows, in seconds: no wait in a step, late reads, streams, generators, moments in their layout."""

from __future__ import annotations

import pytest
import torch
from steps import CLASSES, DIM, Backbone, batch

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.config.degradation import OURS
from qgface_plugin.data.loader import Prefetcher
from qgface_plugin.models.momentum_encoder import MomentumEncoder
from qgface_plugin.training.build import make_scaler
from qgface_plugin.training.checkpoints.rng import restore_rng, rng_state
from qgface_plugin.training.step import TrainStep
from qgface_plugin.utils.device import DTYPES, seed_everything
from qgface_plugin.utils.late_read import LateRead

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)


def make_step(precision: str, queue: str = "proxy") -> TrainStep:
    torch.manual_seed(0)
    backbone = Backbone(DIM).to(CUDA)
    half = precision == "float16"
    criterion = QGPartialFC(QGFaceMargin(b=0.5), DIM, CLASSES, fp16=half, queue=queue, queue_size=40).to(CUDA)
    groups = [{"params": list(module.parameters())} for module in (backbone, criterion)]
    optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9, fused=True)
    keys = MomentumEncoder(backbone, 0.9) if queue == "momentum" else None
    scaler = make_scaler(CUDA, DTYPES[precision])
    return TrainStep(backbone, backbone, criterion, optimizer, scaler, keys, CUDA, DTYPES[precision])


@pytest.fixture
def no_waits():
    """Calls that wait raise, by torch's own account, in what follows `no_waits()`."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("queue", ["proxy", "momentum"])
@pytest.mark.parametrize("precision", sorted(DTYPES))
def test_a_steady_step_does_not_wait(precision, queue, no_waits):
    step, batches = make_step(precision, queue), [batch(number).pin_memory() for number in range(6)]
    for number, given in enumerate(batches[:3], 1):
        step(given, number)
        step.verdict()
    step(batches[3], 4)
    no_waits()
    for number, given in enumerate(batches[4:], 5):
        step(given, number)
        step.verdict()


def test_a_bad_step_leaves_nothing():
    step = make_step("float32")
    for number in (1, 2, 3):
        step(batch(number), number)
        assert step.verdict()
    parts = {"backbone": step.backbone, "criterion": step.criterion}
    before = {(part, name): x.clone() for part, m in parts.items() for name, x in m.state_dict().items()}
    hook = step.criterion.weight.register_hook(lambda gradient: gradient * torch.inf)
    step(batch(4), 4)
    hook.remove()
    assert step.verdict() is False
    for part, module in parts.items():
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[part, name]), (part, name)


def test_labels_out_of_range_are_an_error_in_words():
    """And no assertion of the device, after which nothing works any more."""
    step, wrong = make_step("float32"), batch(1)
    wrong.labels[0] = CLASSES + 7
    step(wrong, 1)
    assert step.verdict() is False
    with pytest.raises(ValueError, match=str(CLASSES + 7)):
        step(batch(2), 2)
    assert float(torch.ones(3, device=CUDA).sum()) == 3


def test_a_late_read_has_the_numbers_of_then():
    late, numbers = LateRead(), torch.zeros(3, device=CUDA)
    torch.cuda._sleep(50_000_000)
    numbers += 1
    late.put(numbers)
    numbers += 1
    assert late.take() == [1.0, 1.0, 1.0]


def test_batches_under_a_busy_stream_arrive_whole():
    sent = [batch(number).pin_memory() for number in range(6)]
    for given, arrived in zip(sent, Prefetcher(CUDA, OURS)(iter(sent)), strict=True):
        torch.cuda._sleep(20_000_000)
        for one, other in zip(given.tensors(), arrived.tensors(), strict=True):
            assert other.is_cuda and torch.equal(one, other.cpu())


def test_its_generator_is_each_ranks_own_and_is_restored():
    drawn = []
    for rank in range(2):
        seed_everything(3, rank)
        drawn.append(torch.rand(4, device=CUDA))
    assert not torch.equal(*drawn)
    state = rng_state()
    first = torch.rand(4, device=CUDA)
    restore_rng(state)
    assert torch.equal(first, torch.rand(4, device=CUDA))


def test_state_moves_between_devices():
    """The criterion's state goes from a CPU to a GPU and back to the last bit."""
    here = QGPartialFC(QGFaceMargin(), DIM, CLASSES)
    here(torch.randn(8, DIM), torch.arange(4).repeat(2))
    there = QGPartialFC(QGFaceMargin(), DIM, CLASSES).to(CUDA)
    there.load_state_dict(here.state_dict())
    for name, value in here.state_dict().items():
        assert torch.equal(there.state_dict()[name].cpu(), value), name

"""Slots go to workers and come back when the main process has no use for them any more."""

from __future__ import annotations

import gc
import logging
import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from qgface_plugin.config.degradation import OURS
from qgface_plugin.data import shared_memory
from qgface_plugin.data.images import encode_png
from qgface_plugin.data.loader import PairLoader, Prefetcher, open_batches
from qgface_plugin.data.pair_batch import PairBatch
from qgface_plugin.data.pair_dataset import PairDataset, collate, worker_init
from qgface_plugin.data.sampler import EpochSampler
from qgface_plugin.data.shared_memory import PixelPool, find_pool, slots_that_fit
from qgface_plugin.utils.errors import TrainingError


class Faces:
    num_classes = 2

    def __init__(self, count: int) -> None:
        images = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
        self.encoded = [encode_png(image) for image in images]

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, index: int) -> tuple[bytes, int]:
        return self.encoded[index], index % 2

    def where(self, index: int) -> str:
        return str(index)


def test_a_slot_is_free_when_the_last_view_of_it_is_gone():
    pool = PixelPool(2, (4, 5))
    assert {pool.take(), pool.take()} == {0, 1} and pool.take() is None
    pool.memory[1] = 7
    lent = pool.lend(1)
    part = lent[2:].view(-1)[:3]
    assert lent.shape == (4, 5) and (lent == 7).all() and lent.data_ptr() == pool.memory[1].data_ptr()
    del lent
    gc.collect()
    assert pool.take() is None, "a view of it lives"
    assert part.tolist() == [7, 7, 7]
    del part
    gc.collect()
    assert pool.take() == 1 and pool.take() is None


def test_a_pool_is_found_by_its_key_and_goes_with_its_owner():
    pools = [PixelPool(1, (2,)) for _ in range(2)]
    assert find_pool(pools[1].key) is pools[1]
    key, lent = pools[0].key, pools[0].lend(0)
    del pools
    gc.collect()
    with pytest.raises(KeyError):
        find_pool(key)
    assert lent.shape == (2,)  # what was lent lives on, and giving it back harms nobody
    del lent


@pytest.mark.parametrize("degrade_on", ["cpu", "device"])
@pytest.mark.parametrize("held", [False, True])
def test_batches_of_a_pool_are_the_batches(degrade_on, held):
    """Also when the main process holds every batch, so that slots run out and new memory is taken."""
    plain = PairDataset(Faces(24), OURS, 3, degrade_on=degrade_on)
    dataset = plain.for_workers(2, 2)
    places = [(0, index) for index in range(24)]
    loader = DataLoader(
        dataset, 2, sampler=places, num_workers=2, collate_fn=collate, worker_init_fn=worker_init, drop_last=True
    )
    kept, inside = [], 0
    low, high = dataset._pool.memory.data_ptr(), dataset._pool.memory.data_ptr() + dataset._pool.memory.numel()
    for step, batch in enumerate(loader):
        inside += low <= batch.high.data_ptr() < high
        kept = [*kept, (step, batch)] if held else [(step, batch)]
        for number, one in kept:
            expected = plain.__getitems__(places[2 * number : 2 * number + 2])
            assert all(map(torch.equal, one.tensors(), expected.tensors())) and one.slot is None
    assert step == 11 and inside == (8 if held else 12)


def test_a_larger_batch_than_the_slots_takes_other_memory():
    dataset = PairDataset(Faces(6), OURS, 3).for_workers(1, 1)
    (batch,) = DataLoader(dataset, 6, sampler=[(0, i) for i in range(6)], num_workers=1, collate_fn=collate)
    assert torch.equal(batch.low, PairDataset(Faces(6), OURS, 3).__getitems__([(0, i) for i in range(6)]).low)


def test_a_batch_without_a_slot_travels_whole():
    batch = PairDataset(Faces(3), OURS, 3).__getitems__([(0, 1), (0, 2)])
    copied = pickle.loads(pickle.dumps(batch))
    assert all(map(torch.equal, copied.tensors(), batch.tensors()))


class Free:
    """What os.statvfs says of a file system with so many free bytes."""

    f_frsize = 4096

    def __init__(self, free: int) -> None:
        self.f_bavail = free // 4096


DOCKER = 64 << 20
SLOT = 256 * 112 * 112 * 3  # of a batch of 128 pairs


@pytest.mark.parametrize(
    "free, ranks, slots",
    [(8 << 30, 1, 8), (DOCKER, 1, 3), (DOCKER, 2, 1), (DOCKER, 8, 0), (0, 1, 0), (2 * 8 * SLOT + 4096, 1, 8)],
)
def test_a_rank_takes_its_part_of_half_of_what_is_free(monkeypatch, free, ranks, slots):
    monkeypatch.setattr(shared_memory.os, "statvfs", lambda path: Free(free))
    assert slots_that_fit(8, SLOT, {"LOCAL_WORLD_SIZE": str(ranks)}) == slots


def test_where_nobody_knows_what_is_free_all_are_tried(monkeypatch):
    def absent(path: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(shared_memory.os, "statvfs", absent)
    assert slots_that_fit(8, SLOT) == 8


def full(self: torch.Tensor) -> None:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


@pytest.mark.parametrize("short", ["little", "none", "full in spite of all"])
def test_short_shared_memory_is_one_line_and_the_batches_are_the_same(monkeypatch, caplog, short):
    dataset = PairDataset(Faces(48), OURS, seed=3)

    def batches(workers: int) -> list[PairBatch]:
        sampler = EpochSampler(len(dataset), 8, 0, 1, 3)
        with open_batches(PairLoader(dataset, sampler, workers, torch.device("cpu"))) as found:
            return [PairBatch(b.high.clone(), b.low.clone(), b.labels.clone(), strength=b.strength) for b in found]

    wanted = batches(0)
    monkeypatch.setattr(shared_memory, "_said", False)
    if short == "full in spite of all":
        monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    else:
        size = 16 * 112 * 112 * 3
        monkeypatch.setattr(shared_memory.os, "statvfs", lambda path: Free(5 * size if short == "little" else 0))
    with caplog.at_level(logging.WARNING):
        found = batches(1), batches(1)
    for one in found:
        assert len(one) == len(wanted) == 6
        for ours, theirs in zip(one, wanted, strict=True):
            for name in ("high", "low", "labels", "strength"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "--shm-size" in lines[0] and "config.num_workers" in lines[0]


def test_a_batch_in_a_pipe_takes_no_shared_memory(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("shared memory was asked for")

    pixels = torch.arange(4 * 112 * 112 * 3, dtype=torch.int64).to(torch.uint8).reshape(4, 112, 112, 3)
    batch = replace(PairBatch.of(pixels, True, np.array([5, 7]), 1, strength=np.ones(2, np.float32)), piped=True)
    monkeypatch.setattr(torch.Tensor, "share_memory_", never)
    sent = pickle.loads(bytes(ForkingPickler.dumps(batch)))
    assert torch.equal(sent.high, batch.high) and torch.equal(sent.low, batch.low) and sent.skipped == 1
    assert sent.high.untyped_storage().data_ptr() == sent.low.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "said, told",
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that", "--shm-size"),
        ("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)", "--shm-size"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "a data worker has ended: .*num_workers"),
    ],
)
def test_a_lost_worker_is_said_in_words(said, told):
    def batches():
        raise RuntimeError(said)
        yield

    with pytest.raises(TrainingError, match=told):
        list(Prefetcher(torch.device("cpu"), None)(batches()))

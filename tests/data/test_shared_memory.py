"""Slots go to workers and come back when the main process has no use for them any more."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from qgface_plugin.config.degradation import OURS
from qgface_plugin.data.images import encode_png
from qgface_plugin.data.pair_dataset import PairDataset, collate, worker_init
from qgface_plugin.data.shared_memory import PixelPool, find_pool


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

from __future__ import annotations

import numpy as np
import pytest
from torch.utils.data import DataLoader

from qgface_plugin.data.sampler import EpochSampler
from qgface_plugin.utils.errors import ConfigError

LENGTH = 103


def global_order(batch_size: int, world_size: int, seed: int = 5, epoch: int = 2, start_step: int = 0) -> list[int]:
    """The indices of all ranks, step by step."""
    ranks = [EpochSampler(LENGTH, batch_size, rank, world_size, seed, epoch, start_step) for rank in range(world_size)]
    drawn = []
    for sampler in ranks:
        pairs = list(sampler)
        assert len(pairs) == len(sampler) and {e for e, _ in pairs} <= {epoch}
        drawn.append(np.array([index for _, index in pairs]).reshape(-1, batch_size))
    return np.concatenate(drawn, axis=1).ravel().tolist()


def test_the_global_order_does_not_depend_on_the_number_of_ranks():
    alone = global_order(8, 1)
    assert alone == global_order(4, 2) == global_order(2, 4)
    assert len(alone) == 96 and len(set(alone)) == 96 and set(alone) <= set(range(LENGTH))


def test_a_rank_takes_its_run_of_every_global_batch():
    alone = np.array(global_order(8, 1)).reshape(-1, 4, 2)
    for rank in range(4):
        mine = [index for _, index in EpochSampler(LENGTH, 2, rank, 4, 5, 2)]
        assert mine == alone[:, rank].ravel().tolist()


def test_epochs_and_seeds_have_their_own_order():
    orders = [tuple(global_order(8, 1, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert global_order(8, 1, 0, 1) == list(orders[1])
    left_out = [set(range(LENGTH)) - set(order) for order in orders]
    assert len(set(map(frozenset, left_out))) > 1, "the same images would never be seen"


@pytest.mark.parametrize("start_step", [0, 1, 7, 12])
def test_a_resumed_epoch_goes_on_where_it_stopped(start_step):
    assert global_order(4, 2, start_step=start_step) == global_order(4, 2)[8 * start_step :]
    assert len(EpochSampler(LENGTH, 4, 1, 2, 5, 2, start_step)) == (12 - start_step) * 4


def test_steps_do_not_shrink_with_the_start():
    sampler = EpochSampler(LENGTH, 4, 0, 2, 5, 0, 3)
    assert sampler.steps_per_epoch == 12
    sampler.set_epoch(1)
    assert list(sampler) == list(EpochSampler(LENGTH, 4, 0, 2, 5, 1)) and len(sampler) == 48
    sampler.set_epoch(1, 11)
    assert len(list(sampler)) == len(sampler) == 4


def test_a_loader_makes_whole_batches_of_it():
    sampler = EpochSampler(LENGTH, 8, 0, 1, 5, 3)

    class Echo:
        def __len__(self):
            return LENGTH

        def __getitem__(self, at):
            return at

    batches = list(DataLoader(Echo(), 8, sampler=sampler, collate_fn=list))
    assert [len(batch) for batch in batches] == [8] * sampler.steps_per_epoch
    assert [at for batch in batches for at in batch] == list(sampler)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((10, 4, 0, 3, 0), "batch_size 4 on 3 .* 12 images.* 10 images"),
        ((0, 1, 0, 1, 0), "the data set has 0 images"),
        ((10, 0, 0, 1, 0), "batch_size is 0"),
        ((10, 1, 2, 2, 0), "rank is 2"),
        ((10, 1, 0, 0, 0), "world_size is 0"),
        ((10, 1, 0, 1, -1), "seed is -1"),
        ((10, 1, 0, 1, 0, -1), "epoch is -1"),
        ((10, 3, 0, 1, 0, 0, 4), "start_step is 4.* 3 steps"),
    ],
)
def test_impossible_requests_are_named(arguments, match):
    with pytest.raises(ConfigError, match=match):
        EpochSampler(*arguments)

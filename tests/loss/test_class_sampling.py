"""Drawing the classes that compete: share, chance, the same on any number of ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qgface_plugin.loss import class_sampling
from qgface_plugin.loss.class_sampling import BLOCK, priorities, sampled_classes

NOBODY = torch.zeros(0, dtype=torch.long)


def draw(number: int, classes: int, rate: float, labels=NOBODY, *, seed=5, start=0, length=None) -> torch.Tensor:
    return sampled_classes(
        labels, torch.tensor(number), seed=seed, rate=rate, num_classes=classes, start=start, length=length or classes
    )


def test_priorities_are_splitmix64_in_unsigned_arithmetic():
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    for seed, number in ((0, 0), (2048, 7), (2**40 + 3, 10**9)):
        stream = mix((mix((number + seed % 2**32 * -7046029254386353131 % 2**62) & mask) + golden) & mask)
        classes = [0, 1, 360_231, 29_000_000]
        expected = [mix((y * golden + stream) & mask) & 2**63 - 1 for y in classes]
        assert priorities(torch.tensor(classes), torch.tensor(number), seed).tolist() == expected


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("classes, rate", [(11, 0.3), (2 * BLOCK, 0.1), (5000, 0.1), (5000, 0.999)])
def test_ranks_together_draw_what_one_draws(ranks, classes, rate):
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, classes, 9))
    whole, parts = draw(3, classes, rate, labels), []
    for rank in range(ranks):
        base, extra = divmod(classes, ranks)
        start, length = base * rank + min(rank, extra), base + (rank < extra)
        parts.append(draw(3, classes, rate, labels, start=start, length=length))
    assert torch.equal(torch.cat(parts), whole) and whole[labels].all()


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("classes", [30, BLOCK, 5000])
def test_the_share_is_exact(classes, rate):
    """Classes of the batch count towards it, as arcface_torch has it."""
    few = torch.arange(0, classes, max(1, classes // 3))
    for labels in (NOBODY, few):
        for number in range(3):
            assert int(draw(number, classes, rate, labels).sum()) == math.floor(rate * classes)


def test_all_classes_of_the_batch_compete_however_many():
    labels = torch.arange(0, 40, 2)
    assert draw(0, 40, 0.01, labels).nonzero().squeeze(1).tolist() == labels.tolist()
    assert int(draw(0, 40, 0.01).sum()) == 0


def test_classes_have_equal_chances_and_draws_are_independent():
    classes, rate, number = 300, 0.2, 3000
    masks = torch.stack([draw(i, classes, rate) for i in range(number)]).double()
    deviation = math.sqrt(rate * (1 - rate) / number)  # of a class's share of the draws
    share = masks.mean(0)
    assert (share - rate).abs().max() < 5 * deviation and 0.8 < share.std() / deviation < 1.2
    again = (masks[1:] * masks[:-1]).mean()
    assert float(again) == pytest.approx(rate**2, rel=0.02)
    neighbours = (masks[:, 1:] * masks[:, :-1]).mean()
    assert float(neighbours) == pytest.approx(rate * (rate * classes - 1) / (classes - 1), rel=0.02)


def test_seed_and_number_of_the_draw_matter():
    first = draw(0, 500, 0.3)
    assert torch.equal(first, draw(0, 500, 0.3))
    assert not torch.equal(first, draw(1, 500, 0.3)) and not torch.equal(first, draw(0, 500, 0.3, seed=6))


def test_blocks_fill_their_share_one_by_one(monkeypatch):
    """A block that the batch fills beyond its share takes nothing from the others."""
    monkeypatch.setattr(class_sampling, "BLOCK", 10)
    mask = draw(0, 40, 0.2, torch.arange(10, 16))
    assert mask.view(4, 10).sum(1).tolist() == [2, 6, 2, 2]

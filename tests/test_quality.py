"""Running statistics of the quality numbers."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch

from qgface_plugin.quality import RunningQuality

BATCHES = [np.random.default_rng(seed).gamma(20.0, 1.0, size=6) for seed in range(5)]


def tensor(values) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def state(quality: RunningQuality) -> list[float]:
    return [float(quality.mean), float(quality.std), float(quality.started)]


@pytest.mark.parametrize("start", ["first_batch", "zero"])
@pytest.mark.parametrize("rule", ["floor", "add"])
@pytest.mark.parametrize("momentum", [0.01, 0.3, 1.0])
def test_statistics_and_indicator_follow_the_loop(start, rule, momentum):
    quality = RunningQuality(0.333, momentum, start, floor=rule == "floor").double()
    reference = oracles.Reference(oracles.PAPER | {"stats_start": start, "stats_momentum": momentum})
    for norms in BATCHES:
        zhat = quality(tensor(norms))
        reference.observe(list(norms))
        expected = [oracles.indicator(z, reference.mu, reference.sigma, 0.333, rule) for z in norms]
        np.testing.assert_allclose(zhat, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(state(quality)[:2], [reference.mu, reference.sigma], rtol=1e-12)


def test_first_batch_initialises_and_sigma_is_the_sample_deviation():
    quality = RunningQuality().double()
    quality.update(tensor([18.0, 22.0]))
    assert state(quality) == [20.0, math.sqrt(8.0), 1.0]


def test_start_at_zero_sees_every_image_as_sharp():
    quality = RunningQuality(start="zero").double()
    assert quality(tensor(BATCHES[0])).tolist() == [1.0] * 6


def test_norms_are_clipped_before_the_statistics():
    quality = RunningQuality().double()
    quality.update(tensor([0.0, 1e6]))
    assert float(quality.mean) == pytest.approx((1e-3 + 100.0) / 2, rel=1e-12)


@pytest.mark.parametrize("norms", [[], [20.0], [20.0, math.nan, 21.0], [20.0, math.inf], [math.nan] * 2], ids=str)
@pytest.mark.parametrize("started", [False, True])
def test_a_batch_that_says_nothing_leaves_them_as_they_are(norms, started):
    quality = RunningQuality().double()
    if started:
        quality.update(tensor(BATCHES[0]))
    before = state(quality)
    quality(tensor(norms))
    assert state(quality) == before
    quality.update(tensor([18.0, 22.0]))
    assert float(quality.mean) == (pytest.approx(before[0] + 0.01 * (20 - before[0])) if started else 20.0)


def test_one_row_still_gets_an_indicator():
    quality = RunningQuality().double()
    quality.update(tensor([18.0, 22.0]))
    assert float(quality(tensor([22.0]))) == pytest.approx(2 * 0.333 / math.sqrt(8.0))


def test_evaluation_does_not_move_the_statistics():
    quality = RunningQuality().double()
    quality(tensor(BATCHES[0]))
    before = state(quality)
    quality.eval()
    quality(tensor(BATCHES[1]))
    assert state(quality) == before


def test_no_gradient_and_float32_statistics_from_half_precision():
    quality = RunningQuality()
    zhat = quality(torch.tensor([18.0, 20.0, 23.0], dtype=torch.float16, requires_grad=True))
    assert not zhat.requires_grad and zhat.dtype == quality.mean.dtype == torch.float32


def test_everything_is_saved():
    quality = RunningQuality(momentum=0.3).double()
    for norms in BATCHES:
        quality.update(tensor(norms))
    other = RunningQuality(momentum=0.3).double()
    other.load_state_dict(quality.state_dict())
    for each in (quality, other):
        each.update(tensor(BATCHES[0]))
    assert state(quality) == state(other)

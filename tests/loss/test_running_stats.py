"""Running statistics of the quality numbers."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from criteria import batch, criterion

from qgface_plugin import QGFaceMargin
from qgface_plugin.loss.running_stats import RunningQuality, RunningThreshold, sample_quantile
from qgface_plugin.utils.errors import ConfigError

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


def test_first_batch_initialises_with_the_sample_deviation():
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


def test_half_precision_gives_float32_without_gradient():
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


# --- The running quantile b: its definition, what share it gives, when it moves, and that it is saved -----------------


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31])
@pytest.mark.parametrize("q", [0.01, 0.25, 0.5, 0.8, 0.99])
def test_the_quantile_of_a_batch_is_the_loops(count, q):
    values = np.random.default_rng(count).uniform(size=count)
    assert float(sample_quantile(torch.from_numpy(values), q)) == pytest.approx(oracles.quantile(list(values), q))


@pytest.mark.parametrize("pairs", [8, 64])
def test_the_share_at_or_below_it_is_what_was_asked_for(pairs):
    rng, threshold = np.random.default_rng(1), RunningThreshold(0.3, 0.05).double()
    shares = []
    for step in range(600):
        u = torch.from_numpy(rng.beta(2, 5, pairs))
        threshold.update(u)
        if step >= 100:
            shares.append(float((u <= threshold.value).double().mean()))
    assert sum(shares) / len(shares) == pytest.approx(0.3, abs=0.015)


def test_the_share_of_pairs_in_a_criterion():
    rng, out = np.random.default_rng(2), criterion(b_quantile=0.25, stats_momentum=0.05, queue_size=8)
    shares = []
    for step in range(200):
        out(*batch(rng, 16))
        if step >= 50:
            shares.append(float(out.terms["lq_share_pair"]))
    assert sum(shares) / len(shares) == pytest.approx(0.25, abs=0.03)
    assert 0 < float(out.terms["lq_share_view"]) < 0.25


def test_single_views_have_their_own_quantile():
    rng, out = np.random.default_rng(2), criterion(paired=False, queue="none", b_quantile=0.4, stats_momentum=0.05)
    features, labels = batch(rng, 10)
    out(features, labels)
    expected = oracles.quantile(out.u_views.tolist(), 0.4)
    assert float(out.terms["b"]) == pytest.approx(expected) and float(out.terms["lq_share_view"]) == pytest.approx(0.4)


def test_it_moves_in_training_only_and_is_saved():
    rng, out = np.random.default_rng(2), criterion(b_quantile=0.5)
    for _ in range(3):
        out(*batch(rng))
    other = criterion(seed=1, b_quantile=0.5)
    other.load_state_dict(out.state_dict())
    probe = batch(np.random.default_rng(9))
    assert torch.equal(out(*probe), other(*probe)) and torch.equal(out.terms["b"], other.terms["b"])
    kept = out.terms["b"].clone()
    out.eval()
    out(*batch(rng))
    assert torch.equal(out.terms["b"], kept)


def test_what_is_not_finite_leaves_it_as_it_is():
    threshold = RunningThreshold(0.5)
    threshold.update(torch.tensor([0.1, torch.nan, 0.3]))
    assert not threshold.started
    threshold.update(torch.tensor([0.2, 0.4]))
    assert float(threshold.value) == pytest.approx(0.3)
    threshold.update(torch.tensor([torch.nan]))
    assert float(threshold.value) == pytest.approx(0.3)


def test_alone_it_is_the_quantile_of_the_rows():
    head = QGFaceMargin(b_quantile=0.5, margin="softmax")
    head.observe(torch.tensor([18.0, 20.0, 22.0, 24.0]))
    logits = head(torch.rand(4, 3), torch.zeros(4, dtype=torch.long))
    assert logits.isfinite().all(1).tolist() == [False, False, True, True]


@pytest.mark.parametrize("value", [0.0, 1.0, -0.2, float("nan")])
def test_shares_that_are_none(value):
    with pytest.raises(ConfigError, match="b_quantile is "):
        QGFaceMargin(b_quantile=value)

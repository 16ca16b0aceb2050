"""Every equation against its float64 loop, and its derivatives against gradcheck."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from qgface_plugin.loss import functional as F

RNG = np.random.default_rng(2)


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, grad: bool = False) -> Tensor:
    return torch.from_numpy(RNG.normal(size=shape)).requires_grad_(grad)


def angles_away_from_clips(zhat: Tensor, margin: float) -> Tensor:
    """Cosines whose modified angle lies well inside (0, pi)."""
    return torch.cos(0.6 + margin + torch.from_numpy(RNG.random(len(zhat)))).requires_grad_()


@pytest.mark.parametrize("rule", ["floor", "add"])
@pytest.mark.parametrize("std", [0.0, 5e-4, 2.5])
def test_quality_indicator(rule, std):
    norms = t(0.0, 1e-4, 5.0, 18.0, 20.0, 20.0003, 21.5, 23.0, 99.0, 1e6)
    zhat = F.quality_indicator(norms, t(20.0)[0], t(std)[0], 0.333, floor=rule == "floor")
    expected = [oracles.indicator(float(z), 20.0, std, 0.333, rule) for z in norms]
    np.testing.assert_allclose(zhat, expected, rtol=0, atol=1e-12)
    assert zhat[0] == -1 and zhat[-1] == 1


def test_quality_indicator_clips_norms_from_above():
    zhat = F.quality_indicator(t(100.0, 5000.0), t(99.0)[0], t(1.0)[0], 0.333)
    assert zhat[0] == zhat[1] == 0.333


def test_no_gradient_through_the_indicator():
    norms = normal(5, grad=True)
    assert not F.quality_indicator(norms.abs() * 10, t(10.0)[0], t(3.0)[0], 0.333).requires_grad


def test_scale_and_pair_indicator():
    zhat = t(-1.0, -0.6, 0.0, 1.0)
    np.testing.assert_allclose(F.unit_scale(zhat), [0.0, 0.2, 0.5, 1.0])
    low, high = t(-0.5, 0.5, 0.1), t(0.5, -0.5, 0.1)
    np.testing.assert_array_equal(F.pair_indicator(low, high), [-0.5, -0.5, 0.1])


@pytest.mark.parametrize(
    "b, classified, contrasted",
    [
        (0.25, [False, False, True, True], [True, True, False, False]),
        (0.0, [True, True, True, True], [True, False, False, False]),
        (1.0, [False, False, False, False], [True, True, True, True]),
    ],
)
def test_gates_share_the_threshold(b, classified, contrasted):
    u = t(0.0, 0.25, 0.5, 1.0)
    assert F.classification_gate(u, b).tolist() == classified
    assert F.contrastive_gate(u, b).tolist() == contrasted


def test_soft_gate():
    u = t(0.0, 0.19, 0.2, 0.21, 1.0).requires_grad_()
    gate = F.soft_gate(u, 0.2, 64.0)
    expected = [1 / (1 + math.exp(-((2 * v - 1) + 2 * (0.5 - 0.2)) * 64.0)) for v in u.tolist()]
    np.testing.assert_allclose(gate, expected, rtol=1e-12)
    assert not gate.requires_grad
    assert F.soft_gate(u, 0.0, 64.0).tolist() == [1.0] * 5


MARGINS = {
    "adaface": lambda cosine, zhat, m: F.adaface_target(cosine, zhat, m),
    "arcface": lambda cosine, zhat, m: F.arcface_target(cosine, m),
    "cosface": lambda cosine, zhat, m: F.cosface_target(cosine, m),
}


@pytest.mark.parametrize("margin", MARGINS)
def test_target(margin):
    cosines = [-0.9999, -0.7, -0.1, 0.0, 0.3, 0.95, 0.9999]
    zhats = [-1.0, -0.37, 0.0, 0.5, 1.0]
    grid = [(cosine, zhat) for cosine in cosines for zhat in zhats]
    cosine, zhat = (torch.tensor(column, dtype=torch.float64) for column in zip(*grid, strict=True))
    expected = [oracles.target(margin, a, b, 0.4) for a, b in grid]
    np.testing.assert_allclose(MARGINS[margin](cosine, zhat, 0.4), expected, rtol=0, atol=1e-12)


def test_adaface_is_a_harder_margin_for_better_views():
    """At zhat = -1 it is ArcFace with margin -m on the angle, at 0 CosFace, at 1 a positive additive margin of 2m."""
    cosine = t(0.3)
    np.testing.assert_allclose(F.adaface_target(cosine, t(-1.0), 0.4), math.cos(math.acos(0.3) + 0.4))
    np.testing.assert_allclose(F.adaface_target(cosine, t(0.0), 0.4), 0.3 - 0.4)
    np.testing.assert_allclose(F.adaface_target(cosine, t(1.0), 0.4), math.cos(math.acos(0.3) - 0.4) - 0.8)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_target_of_a_cosine_of_one_is_finite(margin, dtype, cosine):
    cosine = torch.full((3,), cosine, dtype=dtype, requires_grad=True)
    target = MARGINS[margin](cosine, torch.tensor([-1.0, 0.0, 1.0], dtype=dtype), 0.4)
    target.sum().backward()
    assert target.isfinite().all() and cosine.grad.isfinite().all()


@pytest.mark.parametrize("margin", ["adaface", "arcface"])
def test_target_gradcheck(margin):
    zhat = t(-1.0, -0.4, 0.0, 0.7, 1.0)
    cosine = angles_away_from_clips(zhat, 0.4)
    assert gradcheck(lambda x: MARGINS[margin](x, zhat, 0.4), (cosine,))


def test_no_gradient_from_the_target_to_zhat():
    zhat = t(0.3).requires_grad_()
    F.adaface_target(t(0.2).requires_grad_(), zhat, 0.4).sum().backward()
    assert zhat.grad is None


def test_gradient_scale_is_the_gradient_of_the_real_loss():
    """Eqs. 11-12: g = dL/dcos / s at the own class, L the cross entropy of AdaFace's logits."""
    zhat = t(-1.0, -0.4, 0.0, 0.7, 1.0)
    own = angles_away_from_clips(zhat, 0.4)
    others = 0.3 * torch.tanh(normal(5, 6))
    cosine = torch.cat([own.unsqueeze(1), others], 1)
    logits = F.with_target(cosine, torch.zeros(5, dtype=torch.long), F.adaface_target(own, zhat, 0.4), 4.0)
    loss = torch.nn.functional.cross_entropy(logits, torch.zeros(5, dtype=torch.long), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, own)
    scale = F.gradient_scale(logits.softmax(1)[:, 0].detach(), own.detach(), zhat, 0.4)
    assert scale.abs().min() > 1e-3
    np.testing.assert_allclose(scale, gradient / 4.0, rtol=1e-10)


def test_with_target_replaces_one_entry_a_row():
    cosine, target = normal(3, 4, grad=True), normal(3, grad=True)
    logits = F.with_target(cosine, torch.tensor([2, -1, 0]), target, 10.0)
    expected = cosine.detach().clone() * 10
    expected[0, 2], expected[2, 0] = 10 * target[0].detach(), 10 * target[2].detach()
    np.testing.assert_array_equal(logits.detach(), expected)
    logits.sum().backward()
    assert target.grad.tolist() == [10, 0, 10]
    assert cosine.grad[0, 2] == 0 and cosine.grad[2, 0] == 0 and cosine.grad.sum() == 100


def test_logsumexp():
    logits = 30 * normal(5, 7, grad=True)
    expected = [oracles.log_sum_exp(row) for row in logits.tolist()]
    np.testing.assert_allclose(F.logsumexp(logits).detach(), expected, rtol=1e-14)
    assert gradcheck(F.logsumexp, (normal(4, 6, grad=True),))


def test_logsumexp_and_target():
    """Rows whose class is elsewhere (-1) have target 0; both gradients, alone and together."""
    logits, column = normal(4, 6, grad=True), torch.tensor([2, -1, 0, 5])
    value, target = F.logsumexp_and_target(logits, column)
    torch.testing.assert_close(value, torch.logsumexp(logits, 1))
    rows = [0, 2, 3]
    assert torch.equal(target[rows], logits[rows, column[rows]]) and target[1] == 0
    assert gradcheck(lambda x: F.logsumexp_and_target(x, column), (logits,))
    assert gradcheck(lambda x: F.logsumexp_and_target(x, column)[1], (logits,))


def test_logsumexp_of_nothing():
    logits = torch.full((3, 4), -math.inf, dtype=torch.float64)
    logits[1, 2] = 5.0
    logits.requires_grad_()
    value = F.logsumexp(logits)
    assert value.tolist() == [-math.inf, 5.0, -math.inf]
    value[1:2].sum().backward()
    assert logits.grad.nan_to_num(nan=9.0).sum() == 1
    for shape in ((0, 4), (3, 0), (0, 0)):
        empty = torch.zeros(shape, requires_grad=True)
        assert F.logsumexp(empty).tolist() == [-math.inf] * shape[0]
        F.logsumexp(empty).sum().backward()
        assert empty.grad.shape == shape


def test_refresh():
    features, old, new = normal(5, 4), 3 * normal(5, 4), 2 * normal(5, 4)
    expected = [oracles.refreshed(*(x.numpy() for x in rows)) for rows in zip(features, old, new, strict=True)]
    np.testing.assert_allclose(F.refresh(features, old, new), np.stack(expected), rtol=1e-12)
    residual, scale = F.split_refresh(features, old)
    np.testing.assert_allclose(residual + scale.unsqueeze(1) * new, np.stack(expected), rtol=1e-12)
    np.testing.assert_array_equal(F.refresh(features, old, old), features)


@pytest.mark.parametrize("positive_in_denominator", [True, False])
def test_contrastive_loss(positive_in_denominator):
    query, key, negatives = normal(4, 6, grad=True), normal(4, 6, grad=True), normal(7, 6, grad=True)
    mask = torch.from_numpy(RNG.random((4, 7)) < 0.6)
    mask[3] = False
    options = oracles.PAPER | {"positive_in_denominator": positive_in_denominator, "s": 8.0}
    unit = [[oracles.unit(v) for v in x.detach().numpy()] for x in (query, key, negatives)]
    expected = [
        oracles.contrastive(unit[0][i], unit[1][i], unit[2], (~mask[i]).tolist(), 0.0, options) for i in range(4)
    ]
    assert expected[3] == 0.0 and min(map(abs, expected[:3])) > 0

    def loss(q):
        return F.contrastive_loss(q, key, negatives, mask, 8.0, positive_in_denominator=positive_in_denominator)

    np.testing.assert_allclose(loss(query).detach(), expected, rtol=1e-9)
    assert gradcheck(loss, (query,))
    loss(query).sum().backward()
    assert key.grad is None and negatives.grad is None
    assert query.grad[3].tolist() == [0.0] * 6 and query.grad[:3].abs().min() > 0


def test_info_nce_is_never_negative_but_the_printed_form_is():
    positive, negatives = t(64.0), t(-64.0)
    assert F.info_nce(positive, negatives) >= 0
    assert F.info_nce(positive, negatives, positive_in_denominator=False) == -128


@pytest.mark.parametrize("positive_in_denominator", [True, False])
def test_info_nce_without_negatives(positive_in_denominator):
    positive, negatives = t(3.0, -3.0).requires_grad_(), torch.full((2,), -math.inf).double().requires_grad_()
    loss = F.info_nce(positive, negatives, positive_in_denominator=positive_in_denominator)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert positive.grad.tolist() == [0.0, 0.0] and negatives.grad.tolist() == [0.0, 0.0]

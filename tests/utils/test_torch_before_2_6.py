"""Norms and clipping of gradients: as a loop has them, in whichever torch this is, and as torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from qgface_plugin.utils import torch_before_2_6 as names

BOTH = [
    (names._get_total_norm, names._clip_grads_with_norm_),
    (names.get_total_norm, names.clip_grads_with_norm_),
]


def parameters() -> list[nn.Parameter]:
    """Three with a gradient, of different shapes, and one without."""
    numbers = torch.Generator().manual_seed(3)
    shapes = ((3, 4), (5,), (), (2,))
    found = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]
    for parameter in found[:3]:
        parameter.grad = torch.randn(parameter.shape, generator=numbers, dtype=torch.float64)
    return found


def norm(gradients: list[torch.Tensor]) -> float:
    return math.sqrt(sum(number**2 for gradient in gradients for number in gradient.flatten().tolist()))


@pytest.mark.parametrize("total, clip", BOTH)
@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_gradients_are_shortened_to_the_largest_norm_together(total, clip, largest):
    given = parameters()
    before = [parameter.grad.clone() for parameter in given[:3]]
    length = total([parameter.grad for parameter in given[:3]])
    assert float(length) == pytest.approx(norm(before), rel=1e-12)
    clip(given, largest, length)
    factor = min(1.0, largest / (norm(before) + 1e-6))
    for parameter, gradient in zip(given[:3], before, strict=True):
        torch.testing.assert_close(parameter.grad, gradient * factor, rtol=1e-12, atol=0)
    assert given[3].grad is None


@pytest.mark.parametrize("total, clip", BOTH)
def test_no_gradient_has_norm_0_and_an_infinite_one_is_seen(total, clip):
    assert float(total([])) == 0
    assert not total([torch.tensor([1.0, torch.inf])]).isfinite() and total(iter([torch.tensor([torch.nan])])).isnan()
    clip([nn.Parameter(torch.zeros(2))], 1.0, total([]))

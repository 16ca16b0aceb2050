"""The key encoder: MoCo's eq. 2 over parameters, no gradient, its own statistics."""

from __future__ import annotations

import torch
from torch import nn

from qgface_plugin.models.momentum_encoder import MomentumEncoder


def test_moving_average_of_the_parameters():
    backbone = nn.Linear(3, 2)
    start = backbone.weight.detach().clone()
    encoder = MomentumEncoder(backbone, momentum=0.9)
    expected = start.clone()
    for _ in range(4):
        with torch.no_grad():
            backbone.weight.add_(1.0)
        encoder.update(backbone)
        expected = 0.9 * expected + 0.1 * backbone.weight.detach()
    assert torch.allclose(encoder.encoder.weight, expected)
    assert not encoder.encoder.weight.requires_grad and backbone.weight.requires_grad


def test_keys_have_no_gradient_and_are_the_old_weights():
    backbone = nn.Linear(3, 2)
    encoder = MomentumEncoder(backbone)
    before = backbone(torch.ones(1, 3)).detach()
    with torch.no_grad():
        backbone.weight.zero_()
    keys = encoder(torch.ones(1, 3))
    assert not keys.requires_grad and torch.equal(keys, before)


def test_batch_statistics_are_its_own():
    backbone = nn.BatchNorm1d(3)
    encoder = MomentumEncoder(backbone)
    encoder(torch.full((4, 3), 7.0))
    assert encoder.encoder.running_mean[0] > 0 and backbone.running_mean[0] == 0

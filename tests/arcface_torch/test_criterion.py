"""The momentum queue's keys beside the checkout's forward pass, and losses that are not finite."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from qgface_plugin import QGFaceMargin
from qgface_plugin.arcface_torch.criterion import CheckoutPartialFC, KeySource, MomentumPartialFC
from qgface_plugin.models.momentum_encoder import MomentumEncoder
from qgface_plugin.utils.errors import TrainingError

DIM, ROWS, CLASSES = 4, 6, 5


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, DIM), nn.BatchNorm1d(DIM))


def images(step: int) -> torch.Tensor:
    return torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(step))


def move(backbone: nn.Module) -> None:
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.5


@pytest.mark.parametrize("every", [1, 2])
def test_the_key_encoder_follows_every_update_of_the_weights(every):
    backbone = network()
    reference = copy.deepcopy(backbone)
    encoder = MomentumEncoder(reference, 0.9)
    source = KeySource(backbone, 0.9, every)
    for step in range(1, 7):
        backbone(images(step))
        expected = encoder(images(step))
        torch.testing.assert_close(source.take(), expected, rtol=0, atol=0)
        if step % every == 0:
            move(backbone), move(reference)
            encoder.update(reference)


def test_keys_are_taken_once_and_only_made_in_training():
    backbone = network()
    source = KeySource(backbone, 0.9)
    backbone.eval()(images(0))
    assert source.take() is None and source.encoder is None
    backbone.train()(images(0))
    assert source.take().shape == (ROWS, DIM) and source.take() is None


def test_the_backbones_state_dict_and_gradients_are_untouched():
    backbone, plain = network(), network()
    source = KeySource(backbone, 0.9)
    backbone(images(0)).sum().backward(), plain(images(0)).sum().backward()
    assert source.take().requires_grad is False
    for (name, value), (other, same) in zip(backbone.state_dict().items(), plain.state_dict().items(), strict=True):
        assert name == other and torch.equal(value, same)
    for one, two in zip(backbone.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


def momentum_criterion(source: KeySource) -> MomentumPartialFC:
    torch.manual_seed(2)
    criterion = MomentumPartialFC(QGFaceMargin(queue="momentum", b=0.9), DIM, CLASSES)
    criterion.key_source = source
    return criterion


def test_a_resumed_run_continues_with_the_key_encoder():
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for stop in (None, 3):
        backbone = network()
        criterion = momentum_criterion(KeySource(backbone, 0.9))
        for step in range(6):
            if step == stop:
                file = io.BytesIO()
                torch.save((backbone.state_dict(), criterion.state_dict()), file)
                file.seek(0)
                weights, state = torch.load(file)
                backbone = network()
                criterion = momentum_criterion(KeySource(backbone, 0.9))
                backbone.load_state_dict(weights), criterion.load_state_dict(state)
            loss = criterion(backbone(images(step)), labels)
            move(backbone)
        losses.append(loss.detach())
    assert torch.equal(*losses) and criterion.terms["contrastive"] != 0


@pytest.mark.parametrize("limit", [1, 3])
def test_losses_that_are_not_finite_stop_the_run(limit):
    criterion = CheckoutPartialFC(QGFaceMargin(), DIM, CLASSES)
    criterion.max_bad_steps = limit
    good, labels = torch.randn(4, DIM), torch.tensor([0, 1, 0, 1])
    bad = torch.full((4, DIM), torch.nan)
    for _ in range(2):  # a finite loss starts the count anew
        criterion(good, labels)
        for _ in range(limit - 1):
            criterion(bad, labels)
    with pytest.raises(TrainingError, match=rf"{limit} steps in a row .* none was saved yet"):
        criterion(bad, labels)

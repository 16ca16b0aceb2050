"""What people compare with, equal to a loop of its definition: arcface_torch's ArcFace and CosFace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from criteria import CLASSES, DIM, batch

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.utils.errors import ConfigError


def combined_margin_softmax(features, centres, labels, margin_list, s):
    """Mean cross entropy and its gradient by the cosines' inputs, row by row: softmax of s cos, whose own entry is
    s cos(theta + m2) - s m3; the derivative of that entry by cos theta is taken as s."""
    _, m2, m3 = margin_list
    rows, loss = len(features), 0.0
    by_cosine = np.zeros((rows, len(centres)))
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    directions = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    for i in range(rows):
        logits = [s * float(units[i] @ direction) for direction in directions]
        own = float(units[i] @ directions[labels[i]])
        logits[labels[i]] = s * (math.cos(math.acos(own) + m2) - m3)
        largest = max(logits)
        total = sum(math.exp(logit - largest) for logit in logits)
        loss += (largest + math.log(total) - logits[labels[i]]) / rows
        for j in range(len(centres)):
            p = math.exp(logits[j] - largest) / total
            by_cosine[i, j] = s * (p - (j == labels[i])) / rows
    gradient = np.zeros_like(features)
    for i in range(rows):
        through = by_cosine[i] @ directions
        gradient[i] = (through - (through @ units[i]) * units[i]) / np.linalg.norm(features[i])
    return loss, gradient


@pytest.mark.parametrize("margin_list", [(1.0, 0.5, 0.0), (1.0, 0.0, 0.4), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("alone", [False, True])
def test_arcface_torchs_margins_are_its_values_and_gradients(margin_list, alone):
    features, labels = batch(np.random.default_rng(3))
    torch.manual_seed(0)
    centres = torch.randn(CLASSES, DIM, dtype=torch.float64)
    own = torch.nn.functional.cosine_similarity(features, centres[labels])
    features = features * own.sign()[:, None]  # no angle that the margin takes beyond pi
    margin = QGFaceMargin.arcface_torch(margin_list, s=16.0)
    given = features.clone().requires_grad_()
    if alone:  # as the margin of an untouched partial FC
        norms = given.norm(dim=1)
        margin.observe(norms.detach())
        cosines = torch.nn.functional.normalize(given) @ torch.nn.functional.normalize(centres).T
        loss = torch.nn.functional.cross_entropy(margin(cosines, labels), labels)
    else:
        criterion = QGPartialFC(margin, DIM, CLASSES, queue="none").double()
        with torch.no_grad():
            criterion.weight.copy_(centres)
        loss = criterion(given, labels)
    loss.backward()
    expected, gradient = combined_margin_softmax(features.numpy(), centres.numpy(), labels.tolist(), margin_list, 16.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(given.grad.numpy(), gradient, rtol=0, atol=1e-14)


@pytest.mark.parametrize("margin_list", [(1.0, 0.3, 0.2), (0.9, 0.4, 0.15), (1.0, -0.1, 0.0)])
def test_margins_that_arcface_torch_has_no_loss_for_are_refused(margin_list):
    with pytest.raises(ConfigError, match=r"margin_list is .* \(1, m, 0\) for ArcFace or \(1, 0, m\) for CosFace"):
        QGFaceMargin.arcface_torch(margin_list)


def test_the_authors_margin_goes_without_a_queue():
    criterion = QGPartialFC(QGFaceMargin(authors=True), DIM, CLASSES, queue="none")
    assert criterion.queue is None and criterion.config.sigma_rule == "add"
    with pytest.raises(ConfigError, match="contrastive_gate = 'zero_logits' needs a queue"):
        QGPartialFC(QGFaceMargin(), DIM, CLASSES, queue="none", contrastive_gate="zero_logits")

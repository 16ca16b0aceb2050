"""What people compare with, equal to a loop of its definition: arcface_torch's ArcFace and CosFace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from criteria import CLASSES, DIM, batch
from easydict import EasyDict
from paths import RECIPES

from qgface_plugin import QGFaceConfig, QGFaceMargin, QGPartialFC
from qgface_plugin.config.baselines import BASELINES, baseline
from qgface_plugin.config.recipe import load_recipe
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


# --- The recipes: their settings in QGPartialFC, against the definitions ----------------------------------------------


def of_recipe(name: str, **options) -> QGPartialFC:
    config = {**load_recipe(RECIPES / f"{name}.py", {}).qgface.__dict__, **options}
    torch.manual_seed(0)
    out = QGPartialFC(QGFaceMargin.from_config(QGFaceConfig(**config)), DIM, CLASSES, paired=False).double()
    with torch.no_grad():
        out.weight.copy_(torch.randn_like(out.weight))
    return out


@pytest.mark.parametrize(("name", "margin_list"), [("arcface", (1.0, 0.5, 0.0)), ("cosface", (1.0, 0.0, 0.4))])
def test_the_recipes_of_arcface_torchs_losses(name, margin_list):
    criterion, (features, labels) = of_recipe(name), batch(np.random.default_rng(4))
    centres = criterion.weight.detach()
    features = features * torch.nn.functional.cosine_similarity(features, centres[labels]).sign()[:, None]
    given = features.clone().requires_grad_()
    loss = criterion(given, labels)
    loss.backward()
    expected, gradient = combined_margin_softmax(features.numpy(), centres.numpy(), labels.tolist(), margin_list, 64.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(given.grad.numpy(), gradient, rtol=0, atol=1e-13)


def adaface_loop(features, centres, labels, mean, std, m=0.4, h=0.333, s=64.0, eps=1e-3):
    """AdaFace row by row, as its authors have it: margins follow (norm - mean) / (std + eps) h, clipped to [-1, 1]."""
    loss = 0.0
    for i, feature in enumerate(features):
        norm = float(np.linalg.norm(feature))
        scaler = min(max((min(max(norm, 0.001), 100.0) - mean) / (std + eps) * h, -1.0), 1.0)
        logits = []
        for j, centre in enumerate(centres):
            cosine = float(feature @ centre) / norm / float(np.linalg.norm(centre))
            cosine = min(max(cosine, -1 + eps), 1 - eps)
            if j == labels[i]:
                theta = min(max(math.acos(cosine) - m * scaler, eps), math.pi - eps)
                cosine = math.cos(theta) - (m + m * scaler)
            logits.append(s * cosine)
        largest = max(logits)
        loss += largest + math.log(sum(math.exp(logit - largest) for logit in logits)) - logits[labels[i]]
    return loss / len(features)


def test_the_recipe_of_adaface():
    criterion, (features, labels) = of_recipe("adaface"), batch(np.random.default_rng(4))
    norms = np.linalg.norm(features.numpy(), axis=1)  # of the first batch, which the statistics start from
    given = features.clone().requires_grad_()
    loss = criterion(given, labels)
    loss.backward()
    plain = features.numpy().copy()

    def by_hand():
        return adaface_loop(plain, criterion.weight.detach().numpy(), labels.tolist(), norms.mean(), norms.std(ddof=1))

    assert loss.item() == pytest.approx(by_hand(), rel=1e-9)
    for row, column in ((0, 1), (5, 3)):  # the gradient, by central differences with mean and std held
        plain[row, column] += 1e-6
        above = by_hand()
        plain[row, column] -= 2e-6
        slope = (above - by_hand()) / 2e-6
        plain[row, column] += 1e-6
        tangent = features[row] / norms[row]
        moved = given.grad[row, column].item()
        assert abs(given.grad[row] @ tangent) < 1e-9  # no gradient reaches the norm: it only tells quality
        radial = slope - moved
        assert radial == pytest.approx(radial_slope(by_hand, plain, row) * tangent[column].item(), abs=1e-4)


def radial_slope(by_hand, plain, row) -> float:
    """How the loss changes along a feature's own direction: by its norm alone, which moves its margin."""
    direction = plain[row] / np.linalg.norm(plain[row])
    plain[row] += 1e-6 * direction
    above = by_hand()
    plain[row] -= 2e-6 * direction
    below = by_hand()
    plain[row] += 1e-6 * direction
    return (above - below) / 2e-6


def test_a_baseline_keeps_all_else_and_other_names_are_refused():
    config = EasyDict(network="r18", qgface=EasyDict(s=32.0, train=EasyDict(threads=1)))
    assert baseline(config, "adaface") is config
    assert config.network == "r18" and config.qgface.s == 32.0 and config.qgface.train.threads == 1
    assert {key: config.qgface[key] for key in BASELINES["adaface"]} == BASELINES["adaface"]
    with pytest.raises(ConfigError, match="there is no baseline 'sphereface'.*'arcface', 'cosface', 'adaface'"):
        baseline(config, "sphereface")

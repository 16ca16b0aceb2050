"""Margin heads one by one against loops, and a user's custom head in one file."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from criteria import CLASSES, batch, criterion
from torch.autograd import gradcheck

from qgface_plugin import QGFaceMargin
from qgface_plugin.loss.heads import (
    ClassifiedRows,
    MarginHead,
    magnitude_margin,
    magnitude_regulariser,
    margin_head,
    reweighted,
)
from qgface_plugin.utils.errors import ConfigError
from qgface_plugin.utils.registry import MARGIN_HEADS

COSINES = torch.tensor([-0.9, -0.2, 0.0, 0.35, 0.8, 0.97], dtype=torch.float64)


def test_names():
    assert MARGIN_HEADS.own == {"adaface", "arcface", "cosface", "curricularface", "magface", "softmax"}


@pytest.mark.parametrize("name", ["adaface", "arcface", "cosface", "curricularface", "softmax"])
def test_targets_are_the_loops(name):
    head, zhat = QGFaceMargin(margin=name, m=0.5).head, torch.linspace(-1, 1, 6, dtype=torch.float64)
    expected = [oracles.target(name, c, z, 0.5) for c, z in zip(COSINES.tolist(), zhat.tolist(), strict=True)]
    np.testing.assert_allclose(head.target(COSINES, ClassifiedRows(zhat)), expected, rtol=1e-12)


def test_magface_margin_and_regulariser_are_the_loops():
    head, o = QGFaceMargin(margin="magface").head, oracles.PAPER
    norms = torch.tensor([1.0, 10.0, 25.0, 60.0, 110.0, 300.0], dtype=torch.float64)
    rows = ClassifiedRows(torch.zeros(6), norms)
    margins = [oracles.magface_margin(a, o) for a in norms.tolist()]
    expected = [oracles.target("magface", c, 0.0, m) for c, m in zip(COSINES.tolist(), margins, strict=True)]
    np.testing.assert_allclose(head.target(COSINES, rows), expected, rtol=1e-12)
    np.testing.assert_allclose(head.added_loss(rows), [oracles.magface_added(a, o) for a in norms.tolist()], rtol=1e-12)
    assert margins[:2] == [0.45, 0.45] and margins[-2:] == [pytest.approx(0.8)] * 2
    falling = magnitude_regulariser(torch.tensor([20.0, 50.0, 110.0]), 110.0)
    assert (falling.diff() < 0).all()
    inside = norms[2:4].clone().requires_grad_()
    both = lambda a: (magnitude_margin(a, (10.0, 110.0), (0.45, 0.8)), magnitude_regulariser(a, 110.0))  # noqa: E731
    assert gradcheck(both, (inside,))


def test_curricularface_reweights_hard_negatives_only():
    rng, t = np.random.default_rng(0), 0.3
    cosine = torch.from_numpy(rng.uniform(-1, 1, (5, 7))).requires_grad_()
    target = torch.from_numpy(rng.uniform(-0.5, 0.8, 5))
    found = reweighted(cosine, target, torch.tensor(t, dtype=torch.float64))
    hard = 0
    for i in range(5):
        for j in range(7):
            c = cosine[i, j].item()
            is_hard = c > target[i].item()
            hard += is_hard
            assert found[i, j].item() == pytest.approx(c * (t + c) if is_hard else c, rel=1e-12)
            slope = torch.autograd.grad(found[i, j], cosine, retain_graph=True)[0][i, j]
            assert slope.item() == pytest.approx(t + 2 * c if is_hard else 1.0)
    assert 0 < hard < 35


def test_t_follows_the_classified_rows_and_is_saved():
    options = {"margin": "curricularface", "curricular_momentum": 0.25, "queue": "none"}
    rng, out, t = np.random.default_rng(3), criterion(**options), 0.0
    for _ in range(3):
        features, labels = batch(rng)
        out(features, labels)
        taking_part = out.u_views > out.config.b
        unit = torch.nn.functional.normalize
        own = (unit(features) * unit(out.weight.detach())[labels]).sum(1)[taking_part]
        assert 0 < len(own) < len(labels)
        t += 0.25 * (sum(own.tolist()) / len(own) - t)
    assert float(out.margin_softmax.head.t) == pytest.approx(t, rel=1e-10)
    other = criterion(seed=1, **options)
    other.load_state_dict(out.state_dict())
    assert torch.equal(other(*batch(np.random.default_rng(8))), out(*batch(np.random.default_rng(8))))
    out.eval()
    before = float(out.margin_softmax.head.t)
    out(*batch(rng))
    assert float(out.margin_softmax.head.t) == before


def test_curricularface_alone_is_the_one_inside():
    cosine, labels = torch.rand(6, CLASSES, dtype=torch.float64), torch.arange(6)
    head = QGFaceMargin(margin="curricularface", b=0.45, s=1.0).double()
    head.observe(torch.linspace(10, 30, 6))
    logits = head(cosine, labels)
    open_rows = logits.isfinite().all(1)
    assert 0 < open_rows.sum() < 6
    own = cosine[labels, labels][open_rows].mean()
    assert float(head.head.t) == pytest.approx(0.01 * float(own))


def test_magface_alone_says_what_it_needs():
    head = QGFaceMargin(margin="magface")
    head.observe(20 + torch.rand(4))
    with pytest.raises(ConfigError, match="margin='magface' needs the embeddings"):
        head(torch.rand(4, 3), torch.zeros(4, 1, dtype=torch.long))


def test_a_custom_head_trains_and_names_are_kept():
    try:

        @margin_head("squared")
        class Squared(MarginHead):
            def target(self, cosine, rows):
                return cosine - self.config.m * rows.zhat**2

        features, labels = batch(np.random.default_rng(0))
        out = criterion(margin="squared", queue="none", b=0.0, s=4.0)
        loss = out(features, labels)
        unit = torch.nn.functional.normalize
        cosine, zhat = unit(features) @ unit(out.weight.detach()).T, 2 * out.u_views - 1
        rows = []
        for i, y in enumerate(labels.tolist()):
            logits = [4.0 * float(c) for c in cosine[i]]
            logits[y] -= 4.0 * 0.4 * float(zhat[i]) ** 2
            rows.append(math.log(sum(map(math.exp, logits))) - logits[y])
        assert loss.item() == pytest.approx(sum(rows) / len(rows))
        margin_head("squared")(Squared)  # as when its recipe is loaded again
        with pytest.raises(ValueError, match="arcface"):
            margin_head("arcface")(Squared)
    finally:
        MARGIN_HEADS.pop("squared", None)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"magface_norms": (110.0, 10.0)}, r"magface_norms is \(110\.0, 10\.0\)"),
        ({"magface_norms": (0.0, 10.0)}, r"magface_norms is \(0\.0, 10\.0\)"),
        ({"magface_m": (0.5, 0.5)}, r"magface_m is \(0\.5, 0\.5\)"),
        ({"curricular_momentum": 1.5}, r"curricular_momentum is 1\.5"),
    ],
)
def test_settings_that_cannot_be_used(options, message):
    with pytest.raises(ConfigError, match=message):
        QGFaceMargin(**options)

"""Margin heads inside and outside QGPartialFC: values, gates, derivatives, arcface_torch's contract."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.loss.heads import ClassifiedRows
from qgface_plugin.loss.margin import apply_rule
from qgface_plugin.utils.errors import ConfigError

ROWS, DIM, CLASSES = 8, 4, 6
HEADS = ["adaface", "arcface", "cosface", "softmax"]


def setting(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings with norms from 14 to 26, labels, centres, float64."""
    rng = np.random.default_rng(seed)
    embeddings = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(ROWS, DIM))))
    norms = torch.from_numpy(rng.permutation(np.linspace(14, 26, ROWS)))
    labels = torch.from_numpy(rng.integers(0, CLASSES, ROWS // 2)).repeat(2)
    return embeddings * norms.unsqueeze(1), labels, torch.from_numpy(rng.normal(size=(CLASSES, DIM)))


def partial_fc(embeddings: Tensor, labels: Tensor, centres: Tensor, margin_loss) -> Tensor:
    """Loss of each row, as a partial FC of one rank calls a margin: labels (N, 1), cross entropy by exponentials."""
    cosine = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(centres).T
    logits = margin_loss(cosine.clamp(-1, 1), labels.view(-1, 1))
    weights = (logits - logits.amax(1, keepdim=True).detach()).exp()
    return -(weights.gather(1, labels.view(-1, 1)).squeeze(1) / weights.sum(1)).clamp_min(1e-30).log()


@pytest.mark.parametrize("margin", HEADS)
@pytest.mark.parametrize("gate", ["exact", "sigmoid", "none"])
@pytest.mark.parametrize("cosine_rule", ["exact", "clamp"])
def test_logits_give_the_loops_cross_entropy(margin, gate, cosine_rule):
    options = {"margin": margin, "classification_gate": gate, "cosine_rule": cosine_rule, "b": 0.45, "s": 16.0}
    head, o = QGFaceMargin(**options), oracles.PAPER | options
    rng = np.random.default_rng(1)
    cosine = torch.from_numpy(rng.uniform(-0.9, 0.9, (ROWS, CLASSES)))
    cosine[0, 3], cosine[1, 2], cosine[2, 1] = 0.99999, -0.99999, 0.9995
    labels = torch.tensor([3, 2, 0, 1, 4, 5, 0, 1])
    zhat = torch.linspace(-1, 1, ROWS, dtype=torch.float64)
    logits = apply_rule(head.rule(ClassifiedRows(zhat)), cosine, labels)
    open_rows = head.gate(zhat)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none").where(open_rows, 0.0)
    expected = [oracles.cross_entropy(cosine[i].tolist(), int(labels[i]), float(zhat[i]), o) for i in range(ROWS)]
    np.testing.assert_allclose(loss, expected, rtol=1e-9, atol=1e-12)
    assert (~open_rows).sum() == (4 if gate == "exact" else 0)


@pytest.mark.parametrize("margin", HEADS)
def test_straight_through_changes_the_derivative_only(margin):
    zhat = torch.tensor([-0.8, 0.0, 0.9], dtype=torch.float64)
    logits, gradients = [], []
    for straight_through in (False, True):
        cosine = torch.tensor([[0.1, 0.5], [-0.3, 0.2], [0.7, 0.0]], dtype=torch.float64, requires_grad=True)
        head = QGFaceMargin(margin=margin, straight_through=straight_through)
        scaled = apply_rule(head.rule(ClassifiedRows(zhat)), cosine, torch.tensor([1, 0, -1]))
        scaled.sum().backward()
        logits.append(scaled.detach())
        gradients.append(cosine.grad)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-14, atol=1e-13)
    torch.testing.assert_close(gradients[1], torch.full_like(gradients[1], 64.0))
    differs = (gradients[0] - 64.0).abs() > 1
    angular = {"adaface": [[0, 1], [0, 0], [0, 0]], "arcface": [[0, 1], [1, 0], [0, 0]]}  # adaface at zhat 0 is cosface
    assert differs.int().tolist() == angular.get(margin, [[0, 0]] * 3)


@pytest.mark.parametrize("margin", HEADS)
def test_alone_it_is_the_classification_of_qgpartialfc(margin):
    embeddings, labels, centres = setting()
    results = []
    for alone in (True, False):
        x, w = embeddings.clone().requires_grad_(), centres.clone().requires_grad_()
        head = QGFaceMargin(margin=margin, b=0.45, s=16.0).double()
        if alone:
            head.observe(x.norm(dim=1))
            rows = partial_fc(x, labels, w, head)
            loss = rows.mean()
        else:
            criterion = QGPartialFC(head, DIM, CLASSES, queue="none").double()
            criterion.weight = torch.nn.Parameter(w.detach())
            w = criterion.weight
            loss = criterion(x, labels)
        loss.backward()
        results.append((loss.detach(), x.grad, w.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    gated = (results[0][1] == 0).all(1)
    assert 0 < gated.sum() < ROWS
    assert (rows[gated] == 0).all() and (rows[~gated] > 0).all()


def test_gated_rows_add_nothing_to_a_class_shard():
    """A rank that does not own the class of a gated row sees only -inf: it adds 0 to the sum of exponentials."""
    head = QGFaceMargin(b=0.45).eval()
    head.quality.mean.fill_(20.0), head.quality.std.fill_(1.0)
    head.observe(torch.tensor([18.0, 18.0, 22.0, 22.0]))
    cosine = torch.rand(4, 3, requires_grad=True)
    logits = head(cosine, torch.tensor([[-1], [2], [-1], [2]]))
    assert logits[0].tolist() == [-torch.inf] * 3
    assert logits[1].tolist() == [-torch.inf, -torch.inf, 0.0]
    torch.testing.assert_close(logits[2], 64 * cosine[2])
    assert logits[3].isfinite().all()
    (gradient,) = torch.autograd.grad(logits.exp().sum(), cosine)
    assert (gradient[:2] == 0).all() and gradient[2:].abs().min() > 0


def test_sharded_exponential_sums_add_up():
    """Two class shards, one row in each: summed exponentials give the loss that one shard gives."""
    embeddings, labels, centres = setting(3)
    cosine = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(centres).T

    def logits(low: int, high: int) -> Tensor:
        head = QGFaceMargin(b=0.45, s=16.0).double()
        head.observe(embeddings.norm(dim=1))
        local = torch.where((labels >= low) & (labels < high), labels - low, -1)
        return head(cosine[:, low:high], local.view(-1, 1))

    torch.testing.assert_close(torch.cat([logits(0, 2), logits(2, CLASSES)], 1), logits(0, CLASSES))


def test_observe_is_needed_before_every_forward():
    head, cosine, labels = QGFaceMargin(), torch.rand(4, 3), torch.zeros(4, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="4 rows but norms of none"):
        head(cosine, labels)
    head.observe(torch.rand(3))
    with pytest.raises(ValueError, match="4 rows but norms of 3"):
        head(cosine, labels)
    head.observe(torch.rand(4))
    head(cosine, labels)
    with pytest.raises(ValueError, match="norms of none"):
        head(cosine, labels)


def test_forward_leaves_its_arguments_alone():
    head, cosine, labels = QGFaceMargin(b=0.45), torch.rand(4, 3), torch.tensor([[0], [1], [-1], [2]])
    before = cosine.clone(), labels.clone()
    head.observe(20 + torch.rand(4))
    head(cosine, labels)
    assert torch.equal(cosine, before[0]) and torch.equal(labels, before[1])


def test_positional_arguments_and_options():
    head = QGFaceMargin(32.0, 0.5, 0.3, 0.1, margin="arcface", stats_momentum=0.5)
    assert (head.config.s, head.config.m, head.config.c, head.config.b) == (32.0, 0.5, 0.3, 0.1)
    assert head.quality.c == 0.3 and head.quality.momentum == 0.5
    config = QGFaceConfig.from_mapping({"authors": True, "b": 0.3, "queue": "batch"})
    assert QGFaceMargin.from_config(config).config == config == QGFaceMargin(b=0.3, authors=True, queue="batch").config


@pytest.mark.parametrize(
    "options, message",
    [
        ({"b": 1.5}, r"\.b is 1\.5"),
        ({"margin": "adafce"}, "margin is 'adafce'.*'adaface'"),
        ({"marign": "adaface"}, r"QGFaceMargin\.marign.*margin"),
        ({"s": "64"}, "s is '64'"),
    ],
)
def test_bad_settings_name_key_and_value(options, message):
    with pytest.raises(ConfigError, match=message):
        QGFaceMargin(**options)

"""QGPartialFC at its edges: extreme batches, what is not finite, saved state, refused settings and batches."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from criteria import DIM, PAIRS, batch, criterion, warmed_up

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.utils.errors import ConfigError


def test_all_sharp_all_blurred():
    out, rng = warmed_up()
    features, labels = batch(rng)
    features.requires_grad_()
    out.eval()
    out.margin_softmax.quality.mean.fill_(5.0)
    out(features, labels).backward()
    assert out.terms["contrastive"] == 0 and out.terms["classification"] > 0 and out.terms["lq_share_view"] == 0
    assert (features.grad != 0).any(1).all()
    features.grad, out.weight.grad = None, None
    out.margin_softmax.quality.mean.fill_(90.0)
    out(features, labels).backward()
    assert out.terms["classification"] == 0 and out.terms["contrastive"] > 0 and out.terms["lq_share_pair"] == 1
    assert (features.grad[:PAIRS] == 0).all() and (features.grad[PAIRS:] != 0).any(1).all()
    assert out.weight.grad is None or (out.weight.grad == 0).all()


@pytest.mark.parametrize("b", [0.0, 1.0])
def test_threshold_at_its_ends(b):
    out, rng = warmed_up(b=b)
    features, labels = batch(rng)
    out(features, labels)
    assert (out.terms["classification"] > 0) == (b == 0) and (out.terms["contrastive"] > 0) == (b == 1)


@pytest.mark.parametrize("positive_in_denominator", [True, False])
def test_one_identity_has_no_negatives(positive_in_denominator):
    out = criterion(b=1.0, positive_in_denominator=positive_in_denominator)
    features, _ = batch(np.random.default_rng(0))
    features.requires_grad_()
    loss = out(features, torch.full((2 * PAIRS,), 3))
    loss.backward()
    assert loss.detach() == 0 and (features.grad == 0).all()


def test_one_pair():
    out = criterion(b=1.0)
    features, labels = batch(np.random.default_rng(0), pairs=1)
    assert out(features, labels).isfinite()
    z = [oracles.norm(h) for h in features.numpy()]
    assert float(out.margin_softmax.quality.std) == pytest.approx(oracles.sample_std(z))


def test_one_row_leaves_the_statistics():
    out = criterion(queue="none", paired=False)
    features, labels = batch(np.random.default_rng(0))
    out(features, labels)
    before = out.margin_softmax.quality.mean.clone(), out.margin_softmax.quality.std.clone()
    assert out(features[:1] * 3, labels[:1]).isfinite()
    assert (out.margin_softmax.quality.mean, out.margin_softmax.quality.std) == before
    assert "norm_order" not in out.terms


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("authors", [False, True])
def test_embeddings_that_lie_on_their_centre(sign, dtype, authors):
    out = criterion(authors=authors, s=64.0, c=0.0, contrastive_gate="none" if not authors else "zero_logits").to(dtype)
    labels = torch.arange(PAIRS).repeat(2)
    features = (sign * 20 * torch.nn.functional.normalize(out.weight.detach()[labels])).requires_grad_()
    loss = out(features, labels)
    loss.backward()
    assert loss.isfinite() and features.grad.isfinite().all() and out.weight.grad.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["embeddings", "keys"])
def test_not_finite_gives_nan_and_leaves_the_state(bad, where):
    out, rng = warmed_up(queue="momentum")
    before = {name: value.clone() for name, value in out.state_dict().items()}
    features, labels = batch(rng)
    keys = features.clone()
    (features if where == "embeddings" else keys)[2, 1] = bad
    assert out(features.requires_grad_(), labels, keys).isnan()
    for name, value in out.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert out(*batch(rng), batch(rng)[0]).isfinite()


def test_evaluation_leaves_the_state():
    out, rng = warmed_up()
    before = {name: value.clone() for name, value in out.state_dict().items()}
    out.eval()
    assert out(*batch(rng)).isfinite()
    assert all(torch.equal(value, before[name]) for name, value in out.state_dict().items())


def test_evaluation_before_any_training():
    out = criterion().eval()
    assert out(*batch(np.random.default_rng(0))).isfinite()


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
def test_a_saved_criterion_goes_on_as_before(sample_rate):
    out, rng = warmed_up(sample_rate=sample_rate)
    other = criterion(seed=9, sample_rate=sample_rate)
    other.load_state_dict(out.state_dict())
    for _ in range(4):
        features, labels = batch(rng)
        assert out(features, labels) == other(features, labels)


def test_arguments_are_not_changed():
    out, rng = warmed_up()
    features, labels = batch(rng)
    copies = features.clone(), labels.clone()
    out(features, labels.view(-1, 1))
    assert torch.equal(features, copies[0]) and torch.equal(labels, copies[1])


def test_half_precision_and_autocast_change_nothing_else():
    out = criterion(contrastive_gate="none").float()
    features, labels = batch(np.random.default_rng(0))
    features = features.bfloat16()
    first = criterion(contrastive_gate="none").float()(features.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        second = out(features.requires_grad_(), labels)
    second.backward()
    assert first == second and second.dtype == torch.float32 and features.grad.dtype == torch.bfloat16


def test_upstreams_names():
    out = QGPartialFC(QGFaceMargin(), 8, 11, 0.5, False, queue="none")
    assert [name for name, _ in out.named_parameters()] == ["weight"] and out.state_dict()["weight"].shape == (11, 8)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: QGPartialFC(torch.nn.Identity(), 4, 5), "QGFaceMargin.*Identity"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, -0.1), r"sample_rate is -0\.1"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, 1.5), r"sample_rate is 1\.5"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 0), "num_classes is 0"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, paired=False), "queue='proxy'.*paired=False"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, b=0.5, m=0.1), "QGPartialFC got b, m: .*QGFaceMargin"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, authors=True), "QGPartialFC got authors"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, queue="fifo"), "queue is 'fifo'"),
        (
            lambda: QGPartialFC(QGFaceMargin(), 4, 5, renormalize=True),
            "renormalize.*renormalise",
        ),
    ],
)
def test_contradicting_settings(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    "queue, features, labels, keys, message",
    [
        ("proxy", torch.rand(3, DIM), [0, 1, 2], None, "3 rows"),
        ("proxy", torch.rand(2, DIM), [7, 7], None, r"7 to 7: expected \[0, 7\)"),
        ("proxy", torch.rand(4, DIM), [0, 1, 1, 0], None, r"rows 0\.\.B-1 and B\.\.2B-1"),
        ("momentum", torch.rand(2, DIM), [1, 1], None, "queue='momentum' needs keys"),
        ("batch", torch.rand(2, DIM), [1, 1], torch.rand(2, DIM), "keys were given.*queue='momentum'"),
    ],
)
def test_bad_batches(queue, features, labels, keys, message):
    with pytest.raises(ValueError, match=message):
        criterion(queue=queue)(features.double(), torch.tensor(labels), keys)

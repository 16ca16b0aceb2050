"""QGPartialFC on one process: every option against the loops over several steps, gradients, edge cases."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.config import QGFaceConfig
from qgface_plugin.errors import ConfigError

PAIRS, DIM, CLASSES = 4, 4, 7
BASE = {"b": 0.45, "s": 12.0, "stats_momentum": 0.3}  # both gates open and shut; softmax not saturated


def batch(rng: np.random.Generator, pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    """Raw embeddings (2 pairs, d) with norms around 20, the degraded ones smaller; labels of both views."""
    features = rng.normal(size=(2 * pairs, DIM))
    norms = 20 + 3 * rng.normal(size=2 * pairs) - np.repeat([0.0, 2.0], pairs)
    features *= (norms / np.linalg.norm(features, axis=1))[:, None]
    return torch.from_numpy(features), torch.from_numpy(rng.integers(0, CLASSES, pairs)).repeat(2)


def criterion(seed: int = 0, classes: int = CLASSES, sample_rate: float = 1.0, paired: bool = True, **options):
    torch.manual_seed(seed)
    margin = QGFaceMargin.from_config(QGFaceConfig.from_mapping(BASE | options))
    out = QGPartialFC(margin, DIM, classes, sample_rate, paired=paired).double()
    with torch.no_grad():
        out.weight.copy_(torch.randn_like(out.weight))
    return out


def warmed_up(steps: int = 3, **options) -> tuple[QGPartialFC, np.random.Generator]:
    """A criterion after some steps, and the generator that goes on."""
    rng, out = np.random.default_rng(5), criterion(**options)
    for _ in range(steps):
        features, labels = batch(rng)
        out(features, labels, *([features.flip(1)] if out.config.queue == "momentum" else []))
    return out, rng


ROWS_OF_THE_TABLE = {
    "paper": {},
    "paper_scale": {"s": 64.0},
    "authors": oracles.AUTHORS,
    "sigma_add": {"sigma_rule": "add"},
    "cosine_clamp": {"cosine_rule": "clamp"},
    "stats_zero": {"stats_start": "zero"},
    "stats_rank": {"stats_scope": "rank"},
    "gate_sigmoid": {"classification_gate": "sigmoid"},
    "gate_none": {"classification_gate": "none"},
    "b_0": {"b": 0.0},
    "b_1": {"b": 1.0},
    "pair_gate_zero_logits": {"contrastive_gate": "zero_logits"},
    "pair_gate_none": {"contrastive_gate": "none"},
    "as_printed": {"positive_in_denominator": False},
    "same_identity_zero": {"same_identity": "zero"},
    "not_renormalised": {"renormalise": False},
    "both": {"coupling": "both"},
    "key_not_detached": {"detach_key": False},
    "both_not_detached": {"coupling": "both", "detach_key": False},
    "rescaled": {"queue_rescale": True},
    "weighted": {"contrastive_weight": 0.3},
    "queue_none": {"queue": "none"},
    "queue_batch": {"queue": "batch"},
    "queue_momentum": {"queue": "momentum"},
    "queue_shorter_than_a_batch": {"queue_size": 5},
    "queue_longer": {"queue_size": 19},
    "arcface": {"margin": "arcface"},
    "cosface": {"margin": "cosface"},
    "softmax": {"margin": "softmax"},
}


@pytest.mark.parametrize("case", ROWS_OF_THE_TABLE)
def test_losses_and_gradients_are_the_loops(case):
    options = {key: value for key, value in ROWS_OF_THE_TABLE[case].items() if key not in BASE or case != "authors"}
    reference = oracles.Reference(oracles.PAPER | BASE | options)
    authors = {"authors": True} if case == "authors" else options
    rng, loss_of = np.random.default_rng(7), criterion(**authors)
    for _ in range(5):
        features, labels = batch(rng)
        features.requires_grad_()
        keys = batch(rng)[0] if options.get("queue") == "momentum" else None
        centres = loss_of.weight.detach().numpy().copy()
        loss_of.zero_grad()
        loss = loss_of(features, labels, keys)
        loss.backward()
        expected = reference.step(features.detach().numpy(), labels, centres, None if keys is None else keys.numpy())
        found = [float(loss_of.terms[name]) for name in ("classification", "contrastive")]
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
        total = expected[0] + reference.options["contrastive_weight"] * expected[1]
        assert loss.item() == pytest.approx(total, rel=1e-8, abs=1e-10)
        with torch.no_grad():
            loss_of.weight += 0.1 * torch.from_numpy(rng.normal(size=(CLASSES, DIM)))
    slopes = reference.gradients(features.detach().numpy(), centres)
    for found, slope in zip((features.grad, loss_of.weight.grad), slopes, strict=True):
        np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-6)
    if options.get("queue") != "none" and options.get("b") != 0.0:
        assert expected[1] != 0


@pytest.mark.parametrize("margin", ["adaface", "arcface", "cosface", "softmax"])
@pytest.mark.parametrize("positive_in_denominator", [True, False])
def test_gradcheck_of_the_whole(margin, positive_in_denominator):
    """With c = 0 no zhat depends on a norm, and with momentum keys no frozen feature on an embedding: all is smooth."""
    options = {"margin": margin, "positive_in_denominator": positive_in_denominator, "coupling": "both", "c": 0.0}
    out, rng = warmed_up(queue="momentum", contrastive_gate="none", **options)
    out.eval()
    features, labels = batch(rng)
    keys = batch(rng)[0]

    def loss(x: Tensor, w: Tensor) -> Tensor:
        return functional_call(out, {"weight": w}, (x, labels, keys))

    inputs = (features.requires_grad_(), out.weight.detach().clone().requires_grad_())
    assert gradcheck(loss, inputs, eps=1e-6, atol=1e-6, rtol=1e-4)


def test_straight_through_gradient_of_a_step():
    """arcface_torch's ArcFace: the logits' gradient is s (P - onehot), whatever the margin."""
    out, rng = criterion(margin="arcface", straight_through=True, queue="none", b=0.0), np.random.default_rng(7)
    features, labels = batch(rng)
    unit, centres = torch.nn.functional.normalize(features), torch.nn.functional.normalize(out.weight.detach())
    cosine = (unit @ centres.T).requires_grad_()
    rows = torch.arange(len(labels))
    margin = torch.tensor(
        [oracles.target("arcface", c, 0.0, 0.4) for c in cosine[rows, labels].tolist()], dtype=torch.float64
    )
    logits = 12.0 * cosine.detach().clone()
    logits[rows, labels] = 12.0 * margin
    slope = 12.0 * (logits.softmax(1) - torch.nn.functional.one_hot(labels, CLASSES)) / len(labels)
    features.requires_grad_()
    out(features, labels).backward()
    again = features.detach().clone().requires_grad_()
    (torch.nn.functional.normalize(again) @ centres.T * slope).sum().backward()
    torch.testing.assert_close(features.grad, again.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("margin", ["adaface", "arcface", "cosface", "softmax"])
def test_gated_rows_get_exactly_zero_gradient(margin):
    out, rng = warmed_up(queue="none", margin=margin)
    features, labels = batch(rng)
    features.requires_grad_()
    out(features, labels).backward()
    gated = out.u_views <= 0.45
    assert 0 < gated.sum() < len(gated)
    assert (features.grad[gated] == 0).all() and (features.grad[~gated] != 0).any(1).all()


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
def test_what_is_not_finite_gives_nan_and_leaves_the_state(bad, where):
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


def test_a_saved_criterion_goes_on_as_before():
    out, rng = warmed_up()
    other = criterion(seed=9)
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


@pytest.mark.parametrize("policy", ["active", "all"])
def test_sampled_classes(policy):
    """With a rate this low only the classes of the batch are sampled; the others neither compete nor get gradient."""
    reference = oracles.Reference(oracles.PAPER | BASE | {"b": 0.6, "queue_size": 30})
    out = criterion(b=0.6, queue_size=30, queue_policy=policy, sample_rate=0.01)
    rng = np.random.default_rng(3)
    for _ in range(3):
        features, labels = batch(rng)
        out(features, labels)
        reference.step(features.numpy(), labels, out.weight.detach().numpy())
    out.weight.grad = None
    out(features, labels).backward()
    reference.step(features.numpy(), labels, out.weight.detach().numpy())
    present = sorted(set(labels.tolist()))
    assert 1 < len(present) < CLASSES
    assert (out.weight.grad != 0).any(1).nonzero().squeeze(1).tolist() == present
    reference.labels = [present.index(y) for y in reference.labels]
    relabelled = [(f, present.index(y) if y in present else -1, old) for f, y, old in reference.entries]
    competing = [i for i, (_, y, _) in enumerate(relabelled) if policy == "all" or y >= 0]
    assert (len(competing) < len(relabelled)) == (policy == "active")
    reference.entries = [relabelled[i] for i in competing]
    reference.queue = [reference.queue[i] for i in competing]
    expected = reference.losses(features.numpy(), out.weight.detach().numpy()[present])
    found = [float(out.terms[name]) for name in ("classification", "contrastive")]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_sampling_keeps_the_classes_of_the_batch_and_the_wanted_number():
    out = criterion(classes=40, sample_rate=0.5, queue="none", b=0.0)
    sampled = set()
    for seed in range(3):
        features, labels = batch(np.random.default_rng(seed))
        out.weight.grad = None
        out(features, labels).backward()
        touched = (out.weight.grad != 0).any(1).nonzero().squeeze(1).tolist()
        assert len(touched) == 20 and set(labels.tolist()) <= set(touched)
        sampled |= set(touched)
    assert len(sampled) > 20


def test_half_precision_embeddings_and_autocast_change_nothing_else():
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
        (lambda: QGPartialFC(torch.nn.Identity(), 4, 5), "needs a QGFaceMargin as margin_loss, got Identity"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, 0.0), r"sample_rate is 0\.0: it must be in \(0, 1\]"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, 1.5), r"sample_rate is 1\.5"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 0), "num_classes is 0: each of 1 ranks needs a class"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, paired=False), "queue='proxy' contrasts pairs, but paired=False"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, b=0.5, m=0.1), "QGPartialFC got b, m: .* give it to QGFaceMargin"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, authors=True), "QGPartialFC got authors"),
        (lambda: QGPartialFC(QGFaceMargin(), 4, 5, queue="fifo"), "queue is 'fifo': it must be one of"),
        (
            lambda: QGPartialFC(QGFaceMargin(), 4, 5, renormalize=True),
            "renormalize is unknown: did you mean renormalise",
        ),
    ],
)
def test_contradicting_settings(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    "queue, features, labels, keys, message",
    [
        ("proxy", torch.rand(3, DIM), [0, 1, 2], None, "3 rows is not made of pairs"),
        ("proxy", torch.rand(2, DIM), [7, 7], None, r"labels run from 7 to 7: expected \[0, 7\)"),
        ("proxy", torch.rand(4, DIM), [0, 1, 1, 0], None, r"labels of rows 0\.\.B-1 and B\.\.2B-1 differ"),
        ("momentum", torch.rand(2, DIM), [1, 1], None, "queue='momentum' needs keys"),
        ("batch", torch.rand(2, DIM), [1, 1], torch.rand(2, DIM), "only queue='momentum' takes them"),
    ],
)
def test_bad_batches(queue, features, labels, keys, message):
    with pytest.raises(ValueError, match=message):
        criterion(queue=queue)(features.double(), torch.tensor(labels), keys)

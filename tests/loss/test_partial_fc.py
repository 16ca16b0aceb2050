"""QGPartialFC on one process: every option against the loops over several steps, and its gradients."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from criteria import BASE, CLASSES, DIM, batch, criterion, warmed_up
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

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
    "curricularface": {"margin": "curricularface", "curricular_momentum": 0.4},
    "magface": {"margin": "magface", "magface_norms": (17.0, 24.0)},
    "certainty": {"quality": "certainty"},
    "sharpness": {"quality": "sharpness"},
    "degradation": {"quality": "degradation", "stats_scope": "rank"},
    "norm_in_the_margin": {"quality": "certainty", "margin_quality": "norm"},
    "quantile": {"b_quantile": 0.4},
    "quantile_of_certainty": {"b_quantile": 0.6, "quality": "certainty", "margin": "magface"},
    "quantile_in_soft_gates": {"b_quantile": 0.4, "classification_gate": "sigmoid", "contrastive_gate": "zero_logits"},
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
        given = options.get("quality") in ("sharpness", "degradation")
        numbers = torch.from_numpy(rng.uniform(-8, 4, len(labels))) if given else None  # some beyond their limits
        loss = loss_of(features, labels, keys, numbers)
        loss.backward()
        keys, numbers = (None if x is None else x.numpy() for x in (keys, numbers))
        expected = reference.step(features.detach().numpy(), labels, centres, keys, numbers)
        found = [float(loss_of.terms[name]) for name in ("classification", "contrastive")]
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
        total = expected[0] + reference.options["contrastive_weight"] * expected[1]
        assert loss.item() == pytest.approx(total, rel=1e-8, abs=1e-10)
        assert float(loss_of.terms["b"]) == pytest.approx(reference.b, rel=1e-10)
        order = [reference.numbers[i] > reference.numbers[i + len(labels) // 2] for i in range(len(labels) // 2)]
        assert float(loss_of.terms["quality_order"]) == pytest.approx(sum(order) / len(order))
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


@pytest.mark.parametrize("rate", [0.0, 0.01])
@pytest.mark.parametrize("policy", ["active", "all"])
def test_sampled_classes(policy, rate):
    """At 0, or a rate this low, only classes of the batch are sampled; the others neither compete nor get gradient."""
    reference = oracles.Reference(oracles.PAPER | BASE | {"b": 0.6, "queue_size": 30})
    out = criterion(b=0.6, queue_size=30, queue_policy=policy, sample_rate=rate)
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


def test_sampling_keeps_the_batchs_classes_and_the_number():
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

"""The step that reads nothing of its device: the same losses, gradients and buffers, and no read."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from criteria import CLASSES, DIM, batch, criterion
from device_reads import Reads

from qgface_plugin.config.method import AUTHORS
from qgface_plugin.loss.heads import MarginHead, margin_head
from qgface_plugin.utils.registry import MARGIN_HEADS

OPTIONS = [
    {},
    {"queue": "none"},
    {"queue": "none", "paired": False},
    {"queue": "batch"},
    {"queue": "momentum"},
    {"queue_size": 5},  # fewer than a batch
    {"queue_size": 20},
    {"b": 0.0},
    {"b": 1.0},  # no row is classified
    {"b_quantile": 0.4},
    {"classification_gate": "none", "contrastive_gate": "none"},
    {"coupling": "both", "detach_key": False},
    {"positive_in_denominator": False},
    {"renormalise": False},
    {"same_identity": "zero"},
    {"queue_rescale": True},
    {"margin": "arcface"},
    {"margin": "cosface"},
    {"margin": "softmax"},
    {"margin": "curricularface"},
    {"margin": "magface"},
    {"quality": "certainty"},
    {"quality": "certainty", "margin_quality": "norm"},
    {"straight_through": True},
    {"sample_rate": 0.5},
    {"sample_rate": 0.5, "queue_policy": "all", "margin": "curricularface"},
    dict(AUTHORS),
]


def both_ways(**options):
    read = criterion(**options)
    late = copy.deepcopy(read)
    late.late, read.late = True, False
    return read, late


def one_step(out, features, labels):
    features = features.clone().requires_grad_()
    keys = [features.detach().flip(1)] if out.config.queue == "momentum" else []
    out.weight.grad = None
    loss = out(features, labels, *keys)
    loss.backward()
    with torch.no_grad():
        out.weight.add_(out.weight.grad, alpha=-0.05)
    return loss.detach(), features.grad, out.weight.grad


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ", ".join(f"{k} {v}" for k, v in options.items()))
def test_it_is_the_step_that_computes_only_what_takes_part(options):
    read, late = both_ways(**options)
    rng = np.random.default_rng(3)
    for _ in range(6):
        features, labels = batch(rng)
        if not options.get("paired", True):
            features, labels = features[:4], labels[:4]
        for one, other in zip(one_step(read, features, labels), one_step(late, features, labels), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)
        assert read.terms.keys() == late.terms.keys()
        for name, value in read.terms.items():
            torch.testing.assert_close(late.terms[name], value, rtol=1e-9, atol=1e-12, msg=name)
        there = dict(late.named_buffers())
        for name, buffer in read.named_buffers():
            torch.testing.assert_close(there[name], buffer, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("options", OPTIONS[:-1], ids=lambda options: ", ".join(f"{k} {v}" for k, v in options.items()))
def test_it_reads_nothing(options, monkeypatch):
    _, late = both_ways(**options)
    rng = np.random.default_rng(3)
    views = slice(0, 4) if not options.get("paired", True) else slice(None)
    for _ in range(2):
        features, labels = batch(rng)
        one_step(late, features[views], labels[views])
    lists, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: lists.append(self) or tolist(self))
    with Reads() as seen:
        one_step(late, features[views], labels[views])
    expected = 1 if "sample_rate" in options else 0  # how many centres were drawn
    assert seen.count == expected
    assert len(lists) == 1  # what was wrong with the labels of the step before, which has long been done
    assert lists[0].shape == () and lists[0].dtype == torch.bool


def test_rows_that_take_no_part_have_no_gradient_at_all():
    _, late = both_ways(b=0.6, queue="none")
    features, labels = batch(np.random.default_rng(0))
    _, gradient, _ = one_step(late, features, labels)
    left_out = late.u_views <= 0.6
    assert 0 < int(left_out.sum()) < len(left_out)
    assert not gradient[left_out].any() and gradient[~left_out].any(1).all()


def test_a_batch_that_is_not_finite_changes_nothing():
    _, late = both_ways(queue_size=20)
    rng = np.random.default_rng(1)
    for _ in range(2):
        one_step(late, *batch(rng))
    before = copy.deepcopy(late.state_dict())
    features, labels = batch(rng)
    features[3, 1] = float("nan")
    assert late(features, labels).isnan()
    for name, value in late.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_labels_that_do_not_fit_are_refused_a_step_later():
    _, late = both_ways()
    rng = np.random.default_rng(1)
    features, labels = batch(rng)
    one_step(late, features, labels)
    before = copy.deepcopy(late.state_dict())
    wrong = labels.clone()
    wrong[[0, 4]] = CLASSES + 2
    assert late(features, wrong).isnan()
    for name, value in late.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(ValueError, match=f"run from .* to {CLASSES + 2}"):
        late(features, labels)
    assert late(features, labels).isfinite()
    assert late(
        features, torch.cat([labels[:4], labels[4:].roll(1)])
    ).isnan()  # the views of an image have different labels
    with pytest.raises(ValueError, match="views"):
        late(features, labels)


def test_a_head_that_does_not_say_that_it_goes_by_row_is_given_the_rows_that_take_part():
    seen = []

    @margin_head("of_the_mean")
    class OfTheMean(MarginHead):
        def observe(self, rows):
            seen.append((len(rows.zhat), rows.part))

        def target(self, cosine, rows):
            return cosine - 0.1 * rows.zhat.mean()

    try:
        read, late = both_ways(margin="of_the_mean")
        features, labels = batch(np.random.default_rng(0))
        for one, other in zip(one_step(read, features, labels), one_step(late, features, labels), strict=True):
            assert torch.equal(one, other)
        assert seen[0] == seen[1] and seen[0][1] is None
    finally:
        MARGIN_HEADS.pop("of_the_mean")


def test_the_queue_of_several_ranks_grows_before_it_would_lose_an_entry(monkeypatch):
    """Two ranks' worth of classes: this one owns the even rows, sometimes all, and its ring starts with too few."""
    from qgface_plugin.loss.feature_queue import FeatureQueue
    from qgface_plugin.utils import distributed

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    rng = np.random.default_rng(0)
    read, late = (FeatureQueue(24, DIM, slots=6).double() for _ in range(2))
    read.late, late.late = False, True
    for _ in range(12):
        features = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(8, DIM))))
        labels = torch.from_numpy(np.where(rng.random(8) < rng.choice([0.1, 0.5, 1.0]), rng.integers(0, 5, 8), -1))
        for queue in (read, late):
            queue.enqueue(features, labels, None)
        one, other = (
            sorted((int(s), int(y), tuple(f.tolist())) for s, y, f, a in
                   zip(q.serial, q.labels, q.residual, q.alive(), strict=True) if a)
            for q in (read, late)
        )  # fmt: skip
        assert one == other
    assert len(late.serial) <= 24

"""The frozen teacher: the pull and the contrast with it against float64 loops, gradients, and what is refused."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from criteria import BASE, CLASSES, DIM, PAIRS, batch, criterion
from torch.autograd import gradcheck

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.loss.teacher import pull
from qgface_plugin.utils.errors import ConfigError

WITHOUT = {"classification_weight": 0.0}
CASES = {
    "pull": {"teacher_weight": 0.7},
    "pull_alone": WITHOUT | {"teacher_weight": 1.5, "queue": "none"},
    "contrast": {"queue": "teacher", "queue_size": 9},
    "contrast_of_all_pairs": {"queue": "teacher", "contrastive_gate": "none"},
    "contrast_of_both_views": {"queue": "teacher", "coupling": "both", "contrastive_gate": "none"},
    "contrast_alone": WITHOUT | {"queue": "teacher", "contrastive_gate": "none", "queue_size": 30},
    "all": {"teacher_weight": 0.7, "queue": "teacher", "classification_weight": 0.3, "contrastive_weight": 0.6},
    "gated_by_the_teacher": {"queue": "teacher", "quality": "teacher", "margin_quality": "norm"},
    "momentum_without_classes": WITHOUT | {"queue": "batch", "contrastive_gate": "none"},
}


@pytest.mark.parametrize("late", [False, True], ids=["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize("case", CASES)
def test_terms_and_gradients_are_the_loops(case, late):
    options = CASES[case]
    reference = oracles.Reference(oracles.PAPER | BASE | options)
    rng, loss_of = np.random.default_rng(7), criterion(**options)
    loss_of.late = late
    for _ in range(4):
        features, labels = batch(rng)
        teacher, numbers = batch(rng)[0][:PAIRS] if loss_of.needs_teacher else None, None
        if options.get("quality") == "teacher":
            numbers = torch.from_numpy(rng.uniform(15, 25, len(labels)))
        features.requires_grad_()
        loss_of.zero_grad()
        centres = loss_of.weight.detach().numpy().copy() if len(loss_of.weight) else np.ones((CLASSES, DIM))
        loss = loss_of(features, labels, None, numbers, teacher)
        loss.backward()
        given = [None if x is None else x.numpy() for x in (numbers, teacher)]
        expected = reference.step(features.detach().numpy(), labels, centres, None, *given)
        found = [float(loss_of.terms[name]) for name in ("classification", "contrastive")]
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
        assert loss.item() == pytest.approx(reference.total(features.detach().numpy(), centres), rel=1e-8)
        if options.get("teacher_weight"):
            assert float(loss_of.terms["pull"]) == pytest.approx(reference.pull(features.detach().numpy()), rel=1e-10)
    of_features, of_centres = reference.gradients(features.detach().numpy(), centres)
    np.testing.assert_allclose(features.grad.numpy(), of_features, rtol=1e-5, atol=1e-7)
    if len(loss_of.weight):
        np.testing.assert_allclose(loss_of.weight.grad.numpy(), of_centres, rtol=1e-5, atol=1e-7)
    else:
        assert loss_of.weight.shape == (0, DIM) and loss_of.weight.grad is None


def test_the_cosines_that_are_logged():
    loss_of, (features, labels) = criterion(teacher_weight=1.0), batch(np.random.default_rng(3))
    teacher = batch(np.random.default_rng(4))[0][:PAIRS]
    loss_of(features, labels, None, None, teacher)
    expected = [oracles.dot(oracles.unit(features[i]), oracles.unit(teacher[i % PAIRS])) for i in range(2 * PAIRS)]
    for view, part in (("original", expected[:PAIRS]), ("degraded", expected[PAIRS:])):
        assert float(loss_of.terms[f"teacher_cosine_{view}"]) == pytest.approx(oracles.mean(part))


def test_no_gradient_reaches_the_teacher():
    loss_of, (features, labels) = criterion(**CASES["all"]), batch(np.random.default_rng(3))
    teacher = batch(np.random.default_rng(4))[0][:PAIRS].requires_grad_()
    features.requires_grad_()
    loss_of(features, labels, None, None, teacher).backward()
    assert teacher.grad is None and (features.grad.abs().sum(1) > 0).all()
    assert not any(buffer.requires_grad for buffer in loss_of.buffers())


def test_the_queue_holds_the_teachers_originals_and_none_of_it_moves():
    loss_of, rng = criterion(queue="teacher", queue_size=7), np.random.default_rng(3)
    taught = []
    for _ in range(2):
        features, labels = batch(rng)
        taught.append(batch(rng)[0][:PAIRS])
        loss_of(features, labels, None, None, taught[-1])
    with torch.no_grad():
        loss_of.weight.mul_(-3.0)
    queue = loss_of.queue
    held = queue.refreshed(loss_of.weight)[queue.serial.argsort(descending=True)]
    expected = torch.cat([taught[1], taught[0]])[:7]  # newest first: the first row of the latest batch
    assert torch.allclose(held, torch.nn.functional.normalize(expected), atol=1e-12)


def test_the_gradient_of_the_pull():
    unit, teacher = torch.randn(6, 3).double().requires_grad_(), torch.randn(3, 3).double()
    assert gradcheck(lambda unit: pull(unit, teacher, torch.tensor([0, 1, 2, 0, 1, 2])), unit)
    (gradient,) = torch.autograd.grad(pull(unit, teacher, torch.tensor([0, -1, 2, 0, -1, 2])), unit)
    assert (gradient[[1, 4]] == 0).all() and (gradient[[0, 2, 3, 5]] != 0).all()  # another rank's


def test_a_step_without_a_pair_that_takes_part_still_has_a_backward_pass():
    loss_of, (features, labels) = criterion(**WITHOUT, queue="teacher", b=0.0), batch(np.random.default_rng(3))
    features.requires_grad_()
    loss_of(features, labels, None, None, features[:PAIRS].detach()).backward()
    assert (features.grad == 0).all()


def test_embeddings_that_are_missing_surplus_or_misshapen_are_refused():
    features, labels = batch(np.random.default_rng(3))
    with pytest.raises(ValueError, match=r"teacher's embeddings of the originals, of shape \(4, 4\), .* got none"):
        criterion(teacher_weight=1.0)(features, labels)
    with pytest.raises(ValueError, match=r"got some of shape \(8, 4\)"):
        criterion(queue="teacher")(features, labels, None, None, features)
    with pytest.raises(ValueError, match="neither teacher_weight nor"):
        criterion()(features, labels, None, None, features[:PAIRS])


def test_a_teacher_that_is_not_finite_leaves_the_queue_as_it_is():
    loss_of, (features, labels) = criterion(queue="teacher"), batch(np.random.default_rng(3))
    bad = features[:PAIRS].clone()
    bad[1, 2] = float("nan")
    assert loss_of(features, labels, None, None, bad).isnan() and int(loss_of.queue.living()) == 0


@pytest.mark.parametrize(
    "options, says",
    [
        ({}, "queue is 'proxy'"),
        ({"queue": "none"}, "nothing is left to train by"),
        ({"queue": "batch", "contrastive_weight": 0.0}, "nothing is left to train by"),
        ({"queue": "batch", "quality": "certainty"}, "quality is 'certainty'"),
    ],
)
def test_what_needs_class_centres_is_refused_without(options, says):
    with pytest.raises(ConfigError, match=f"classification_weight is 0 .*{says}"):
        QGFaceConfig(classification_weight=0.0, **options)

"""The scalars that loggers read."""

from __future__ import annotations

import pytest
import torch

from qgface_plugin import QGFaceMargin, QGPartialFC

ALWAYS = {"loss", "classification", "contrastive", "lq_share_view", "norm_mean", "norm_std"}
PAIRED = {"lq_share_pair", "norm_order", "norm_original", "norm_degraded"}
NORMS = torch.tensor([20.0, 22.0, 24.0, 26.0, 21.0, 18.0, 10.0, 19.0])  # pair 0 is in the wrong order


def step(criterion: QGPartialFC, norms: torch.Tensor = NORMS) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(len(norms), 4)) * norms.unsqueeze(1)
    criterion(features.requires_grad_(), torch.arange(4).repeat(2)[: len(norms)]).backward()
    return criterion.terms


@pytest.mark.parametrize(
    "options, names",
    [
        ({}, ALWAYS | PAIRED | {"queue_fill"}),
        ({"queue": "batch"}, ALWAYS | PAIRED | {"queue_fill"}),
        ({"queue": "none"}, ALWAYS | PAIRED),
        ({"queue": "none", "paired": False}, ALWAYS),
    ],
    ids=str,
)
def test_names(options, names):
    terms = step(QGPartialFC(QGFaceMargin(), 4, 6, **options))
    assert set(terms) == names
    assert all(value.ndim == 0 and not value.requires_grad and value.isfinite() for value in terms.values())


def test_values():
    criterion = QGPartialFC(QGFaceMargin(b=0.5), 4, 6, queue_size=20, contrastive_weight=0.5)
    terms = {name: float(value) for name, value in step(criterion).items()}
    assert terms["norm_mean"] == pytest.approx(20.0)
    assert terms["norm_std"] == pytest.approx(float(NORMS.std()))
    assert terms["norm_order"] == 0.75
    assert (terms["norm_original"], terms["norm_degraded"]) == (23.0, 17.0)
    assert terms["lq_share_view"] == pytest.approx(4 / 8)  # 20, 18, 10 and 19 are not above the mean of 20
    assert terms["lq_share_pair"] == 1.0
    assert terms["queue_fill"] == pytest.approx(8 / 20)
    assert terms["loss"] == pytest.approx(terms["classification"] + 0.5 * terms["contrastive"])
    for _ in range(3):
        step(criterion)
    assert criterion.terms["queue_fill"] == 1.0


def test_qualities_of_the_views_are_those_of_the_rows():
    criterion = QGPartialFC(QGFaceMargin(), 4, 6)
    step(criterion)
    order = NORMS.argsort()
    assert criterion.u_views.shape == (8,) and (criterion.u_views[order].diff() > 0).all()


def test_terms_are_of_this_step_and_do_not_change_later():
    criterion = QGPartialFC(QGFaceMargin(), 4, 6)
    first = step(criterion)
    kept = {name: value.clone() for name, value in first.items()}
    step(criterion, NORMS * 2)
    assert all(torch.equal(first[name], kept[name]) for name in first)
    assert criterion.terms["norm_mean"] > first["norm_mean"]

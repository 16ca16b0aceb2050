"""The scalars that loggers read."""

from __future__ import annotations

import pytest
import torch

import qgface_plugin.loss.terms as terms_module
from qgface_plugin import QGFaceMargin, QGPartialFC

ALWAYS = {"loss", "classification", "contrastive", "b", "lq_share_view", "norm_mean", "norm_std"}
PAIRED = {
    "lq_share_pair", "norm_order", "quality_order", "norm_original", "norm_degraded", "positive_cosine",
}  # fmt: skip
QUEUED = {"queue_fill", "negative_cosine", "hardest_cosine"}
NORMS = torch.tensor([20.0, 22.0, 24.0, 26.0, 21.0, 18.0, 10.0, 19.0])  # pair 0 is in the wrong order


def step(criterion: QGPartialFC, norms: torch.Tensor = NORMS) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(len(norms), 4)) * norms.unsqueeze(1)
    criterion(features.requires_grad_(), torch.arange(4).repeat(2)[: len(norms)]).backward()
    return criterion.terms


@pytest.mark.parametrize(
    "options, names",
    [
        ({}, ALWAYS | PAIRED | QUEUED),
        ({"queue": "batch"}, ALWAYS | PAIRED | QUEUED),
        ({"queue": "none"}, ALWAYS | PAIRED),
        ({"queue": "none", "paired": False}, ALWAYS),
    ],
    ids=["proxy", "batch", "none", "single views"],
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
    assert terms["norm_order"] == terms["quality_order"] == 0.75
    assert terms["b"] == 0.5
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


@pytest.mark.parametrize("queue", ["proxy", "momentum"])
def test_cosines_of_positives_and_negatives(queue, monkeypatch):
    """Against a loop over pairs and entries, when the sample is the whole queue and when it is every other slot."""
    for entries in (512, 12):
        monkeypatch.setattr(terms_module, "ENTRIES", entries)
        torch.manual_seed(1)
        criterion = QGPartialFC(QGFaceMargin(), 4, 6, queue=queue, queue_size=20)
        for _ in range(3):
            features = torch.randn(8, 4)
            keys = torch.randn(8, 4) if queue == "momentum" else None
            criterion(features, labels := torch.arange(4).repeat(2), keys)
            with torch.no_grad():
                criterion.weight.add_(torch.randn_like(criterion.weight), alpha=0.1)
        criterion.eval()
        criterion(features, labels, keys)
        unit = [row / row.norm() for row in features]
        key = unit if keys is None else [row / row.norm() for row in keys]
        positives = [float(unit[4 + i] @ key[i]) for i in range(4)]
        entry = criterion.queue.refreshed(criterion.weight)
        step = 1 if entries == 512 else 2
        rows = [
            [
                float(unit[4 + i] @ entry[slot])
                for slot in range(0, 20, step)
                if criterion.queue.alive()[slot] and criterion.queue.labels[slot] != labels[4 + i]
            ]
            for i in range(4)
        ]
        every = [cosine for row in rows for cosine in row]
        assert criterion.terms["positive_cosine"] == pytest.approx(sum(positives) / 4, abs=1e-5)
        assert criterion.terms["negative_cosine"] == pytest.approx(sum(every) / len(every), abs=1e-5)
        assert criterion.terms["hardest_cosine"] == pytest.approx(sum(map(max, rows)) / 4, abs=1e-5)

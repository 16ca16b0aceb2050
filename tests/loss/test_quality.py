"""Sources of quality: their numbers by loops, what the criterion asks of its host, and a user's custom source."""

from __future__ import annotations

import math

import cv2
import numpy as np
import oracles
import pytest
import torch
from criteria import batch, criterion
from tiny import face

from qgface_plugin import QGFaceMargin
from qgface_plugin.loss import quality
from qgface_plugin.loss.quality import BatchRows, QualitySource, certainty, of_images, quality_source, sharpness
from qgface_plugin.utils.errors import ConfigError
from qgface_plugin.utils.registry import QUALITY_SOURCES


def rows_of(rng: np.random.Generator, classes: int) -> BatchRows:
    raw, centres = torch.from_numpy(rng.normal(size=(6, 5))), torch.from_numpy(rng.normal(size=(classes, 5)))
    labels = torch.from_numpy(rng.integers(0, classes, 6))
    return BatchRows(raw, torch.nn.functional.normalize(raw), centres, None, labels, raw.norm(dim=1))


@pytest.mark.parametrize("block", [1, 2, 100])
def test_certainty_is_the_loops(block, monkeypatch):
    monkeypatch.setattr(quality, "BLOCK", block)
    rows = rows_of(np.random.default_rng(0), 5)
    centres = [oracles.unit(c) for c in rows.centres.numpy()]
    expected = [oracles.certainty(u, int(y), centres) for u, y in zip(rows.unit.numpy(), rows.position, strict=True)]
    np.testing.assert_allclose(certainty(rows), expected, rtol=1e-10)


def test_certainty_with_one_class_is_finite():
    assert certainty(rows_of(np.random.default_rng(1), 1)).isfinite().all()


def test_sharpness_is_the_loops_and_has_no_gradient():
    images = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 3, 12, 14))).float().requires_grad_()
    found = sharpness(images)
    for image, value in zip(images.detach().numpy(), found.tolist(), strict=True):
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        half = [[grey[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(7)] for i in range(6)]
        logs = [
            math.log(
                abs(half[i - 1][j] + half[i + 1][j] + half[i][j - 1] + half[i][j + 1] - 4 * half[i][j]) + 1 / 127.5
            )
            for i in range(1, 5)
            for j in range(1, 6)
        ]
        assert value == pytest.approx(sum(logs) / len(logs), rel=1e-4)
    assert not found.requires_grad


@pytest.mark.parametrize("up", [cv2.INTER_NEAREST_EXACT, cv2.INTER_LINEAR, cv2.INTER_CUBIC])
def test_small_faces_are_less_sharp_however_they_are_enlarged(up):
    for i in range(5):
        image = face(i, i)
        small = cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA)
        both = np.stack([image, cv2.resize(small, (112, 112), interpolation=up)]).transpose(0, 3, 1, 2)
        sharp, blurred = sharpness(torch.from_numpy(both.astype(np.float32)) / 127.5 - 1).tolist()
        assert sharp > blurred + 0.5


def test_numbers_lie_well_within_their_limits():
    flat, noise = torch.zeros(1, 3, 112, 112), torch.randn(1, 3, 112, 112).sign()
    low, high = QUALITY_SOURCES["sharpness"].limits
    assert low < float(sharpness(flat)) < float(sharpness(noise)) < high
    assert QUALITY_SOURCES["norm"].limits == (1e-3, 100.0)


def test_the_host_measures_what_the_criterion_cannot():
    images, strength = torch.rand(4, 3, 112, 112), torch.tensor([0.0, 0.0, 1.5, 2.0])
    assert of_images("norm", images, strength) is None and of_images("certainty", images, None) is None
    assert torch.equal(of_images("sharpness", images, None), sharpness(images))
    assert of_images("degradation", images, strength).tolist() == [0.0, 0.0, -1.5, -2.0]
    with pytest.raises(ValueError, match="quality = 'degradation'"):
        of_images("degradation", images, None)


def test_a_criterion_says_what_it_misses():
    features, labels = batch(np.random.default_rng(0))
    with pytest.raises(ValueError, match="quality='sharpness' .* 8 rows, got none"):
        criterion(quality="sharpness")(features, labels)
    with pytest.raises(ValueError, match=r"got some of shape \(4,\)"):
        criterion(quality="sharpness")(features, labels, None, torch.zeros(4))
    with pytest.raises(ValueError, match="quality was given"):
        criterion()(features, labels, None, torch.zeros(8))


def test_numbers_that_are_not_finite_change_nothing():
    rng, out = np.random.default_rng(0), criterion(quality="sharpness", b_quantile=0.4)
    out(*batch(rng), None, torch.randn(8))
    before = {name: value.clone() for name, value in out.state_dict().items()}
    numbers = torch.randn(8)
    numbers[3] = torch.inf
    assert out(*batch(rng), None, numbers).isnan()
    assert all(torch.equal(value, before[name]) for name, value in out.state_dict().items())


def test_terms_of_another_source():
    rng, out = np.random.default_rng(0), criterion(quality="degradation", stats_start="first_batch")
    features, labels = batch(rng)
    numbers = torch.tensor([0.0, 0.0, 0.0, -1.0, -2.0, 0.0, -1.0, -0.5], dtype=torch.float64)
    out(features, labels, None, numbers)
    terms = {name: float(value) for name, value in out.terms.items()}
    assert terms["quality_order"] == (1 + 0.5 + 1 + 0) / 4
    assert terms["quality_mean"] == pytest.approx(float(numbers.mean()))
    assert terms["quality_std"] == pytest.approx(float(numbers.std()))
    assert terms["norm_mean"] == pytest.approx(float(features.norm(dim=1).mean()))


def test_norms_in_the_margin_keep_adaface_as_it_was():
    """With every view classified, another source behind the gates changes nothing in a margin that keeps the norm."""
    rng, options = np.random.default_rng(0), {"queue": "none", "b": 0.0}
    plain, other, same = (
        criterion(**options, **more)
        for more in ({}, {"quality": "certainty", "margin_quality": "norm"}, {"quality": "certainty"})
    )
    for _ in range(3):
        features, labels = batch(rng)
        losses = [out(features, labels).item() for out in (plain, other, same)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12) and abs(losses[0] - losses[2]) > 1e-3


def test_alone_other_sources_are_observed_by_hand():
    head = QGFaceMargin(quality="sharpness", b=0.45)
    with pytest.raises(ConfigError, match="quality is 'sharpness'"):
        head.attach_to(torch.nn.Identity())
    head.observe(torch.tensor([-4.0, -3.0, -2.0]))
    closed = (head(torch.rand(3, 2), torch.zeros(3, 1, dtype=torch.long)) == -torch.inf).any(1)
    assert closed.tolist() == [True, False, False]
    both = QGFaceMargin(quality="sharpness", margin_quality="norm")
    both.observe(torch.zeros(3))
    with pytest.raises(ConfigError, match="margin_quality='norm' needs the embeddings"):
        both(torch.rand(3, 2), torch.zeros(3, 1, dtype=torch.long))


def test_a_custom_source_trains_and_names_are_kept():
    try:
        source = quality_source(QualitySource("first_entry", (-1.0, 1.0), of_rows=lambda rows: rows.unit[:, 0]))
        out = criterion(quality="first_entry")
        features, labels = batch(np.random.default_rng(0))
        out(features, labels)
        order = torch.nn.functional.normalize(features)[:, 0].argsort()
        assert (out.u_views[order].diff() >= 0).all() and out.u_views.std() > 0
        assert quality_source(source) is source  # as when its recipe is loaded again
        with pytest.raises(ValueError, match="quality source 'norm'"):
            quality_source(QualitySource("norm", (0.0, 1.0), of_rows=lambda rows: rows.raw[:, 0]))
    finally:
        QUALITY_SOURCES.pop("first_entry", None)


def test_sources_that_are_none():
    with pytest.raises(ValueError, match="quality source 'x' needs"):
        QualitySource("x", (0.0, 1.0))
    with pytest.raises(ValueError, match=r"quality source 'x' has limits \(1\.0, 0\.0\)"):
        QualitySource("x", (1.0, 0.0), of_rows=lambda rows: rows.raw[:, 0])
    with pytest.raises(ConfigError, match="quality is 'nrom'.*'norm'"):
        QGFaceMargin(quality="nrom")

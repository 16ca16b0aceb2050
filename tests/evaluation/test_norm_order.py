"""Whether norms follow quality: shares and AUC by loops, verdicts, and degraded copies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from tiny import face

from qgface_plugin.evaluation import Embeddings, compare_norms, norm_order
from qgface_plugin.evaluation.norm_order import degraded_copies, norm_statistics
from qgface_plugin.utils.errors import DataError


class Sharpness:
    """The norm of a feature is the image's contrast between neighbouring pixels, or its inverse."""

    name, dim = "sharpness", 2

    def __init__(self, power: int) -> None:
        self.power = power

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        contrast = np.array([cv2.Laplacian(image, cv2.CV_64F).std() for image in images]) ** self.power
        features = np.stack([contrast, contrast], axis=1).astype(np.float32)
        return Embeddings(features, features)


FACES = np.stack([face(i, i) for i in range(20)])


def test_numbers_are_the_definitions() -> None:
    rng = np.random.default_rng(0)
    sharp, degraded = rng.integers(0, 6, 30).astype(float), rng.integers(0, 5, 30).astype(float)
    found = compare_norms(sharp, degraded)
    one = sum(1.0 if s > d else 0.5 if s == d else 0.0 for s, d in zip(sharp, degraded, strict=True))
    every = sum(1.0 if s > d else 0.5 if s == d else 0.0 for s in sharp for d in degraded)
    assert found.share == pytest.approx(one / 30) and found.auc == pytest.approx(every / 900) and found.images == 30
    statistics = norm_statistics(sharp)
    assert statistics.mean == pytest.approx(sum(sharp) / 30) and statistics.median == np.median(sharp)
    assert statistics.std == pytest.approx((sum((x - statistics.mean) ** 2 for x in sharp) / 30) ** 0.5)
    assert statistics.p5 <= statistics.median <= statistics.p95 and found.sharp == statistics


@pytest.mark.parametrize(("power", "verdict", "share"), [(1, "follows quality", 1.0), (-1, "upside down", 0.0)])
def test_a_model_whose_norm_is_sharpness(power: int, verdict: str, share: float) -> None:
    found = norm_order(Sharpness(power), FACES)
    assert (found.verdict, found.share) == (verdict, share)
    assert found == norm_order(Sharpness(power), FACES, degraded_copies(FACES))


def test_other_verdicts() -> None:
    base = np.arange(1.0, 101)
    assert compare_norms(base, base + np.where(base % 2 == 0, 0.1, -0.1)).verdict == "tells nothing"
    assert compare_norms(base, base).verdict == "tells nothing"
    weak = compare_norms(base, base - 1)
    assert weak.share == 1.0 and weak.auc < 0.6 and weak.verdict == "weak"


def test_degraded_copies_are_blurred_and_repeatable() -> None:
    copies = degraded_copies(FACES, seed=3)
    assert copies.shape == FACES.shape and copies.dtype == np.uint8
    np.testing.assert_array_equal(copies, degraded_copies(FACES, seed=3))
    assert not np.array_equal(copies, degraded_copies(FACES, seed=4))
    for image, copy in zip(FACES, copies, strict=True):
        assert cv2.Laplacian(copy, cv2.CV_64F).std() < 0.7 * cv2.Laplacian(image, cv2.CV_64F).std()
        coarse = [cv2.resize(x, (7, 7), interpolation=cv2.INTER_AREA).astype(float) for x in (image, copy)]
        mirrored = coarse[0][:, ::-1]
        assert np.abs(coarse[0] - coarse[1]).mean() < np.abs(mirrored - coarse[1]).mean()


def test_what_does_not_go_together() -> None:
    with pytest.raises(DataError, match="20 images and 19 degraded copies"):
        norm_order(Sharpness(1), FACES, FACES[1:])
    with pytest.raises(DataError, match=r"\(3,\) norms of images and \(2,\) of copies"):
        compare_norms(np.ones(3), np.ones(2))
    for norms in (np.ones(0), np.array([1.0, np.nan]), np.ones((2, 2))):
        with pytest.raises(DataError, match="norms are"):
            norm_statistics(norms)

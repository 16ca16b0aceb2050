"""Pooling of embeddings: against a loop in float64, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from qgface_plugin.models.pooling import HOW, pool, pool_groups
from qgface_plugin.models.quality_calibration import QualityCalibration
from qgface_plugin.utils.errors import ConfigError, DataError

CALIBRATION = QualityCalibration.of_norms(np.arange(101.0), "r", "")


def loop(embeddings: np.ndarray, norms: np.ndarray, how: str) -> list[float]:
    total = [0.0] * embeddings.shape[1]
    for row, norm in zip(embeddings.tolist(), norms.tolist(), strict=True):
        length = sum(value * value for value in row) ** 0.5
        weight = {"mean": 1.0, "norm": norm, "quality": max(norm, 0.5) / 100}[how]  # a norm of 7 is better than 7 %
        total = [old + weight * value / length for old, value in zip(total, row, strict=True)]
    length = sum(value * value for value in total) ** 0.5
    return [value / length for value in total]


@pytest.mark.parametrize("how", HOW)
def test_against_a_loop(how: str) -> None:
    rng = np.random.default_rng(0)
    embeddings, norms = rng.normal(size=(23, 5)).astype(np.float32), rng.uniform(0.1, 99, 23)
    groups = rng.integers(0, 4, 23)
    ids, found = pool_groups(embeddings, groups, norms, how, CALIBRATION)
    assert ids.tolist() == [0, 1, 2, 3] and found.dtype == np.float64
    for group, row in zip(ids, found, strict=True):
        of_it = groups == group
        expected = loop(embeddings[of_it].astype(np.float64), norms[of_it], how)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            pool(embeddings[of_it], norms[of_it], how, CALIBRATION), expected, rtol=0, atol=1e-12
        )


def test_by_norm_is_the_mean_of_raw_features() -> None:
    raw = np.random.default_rng(1).normal(size=(9, 4))
    mean = raw.mean(axis=0)
    np.testing.assert_allclose(pool(raw, np.linalg.norm(raw, axis=1), "norm"), mean / np.linalg.norm(mean), atol=1e-12)


def test_length_of_rows_does_not_count_and_all_of_least_quality_are_a_mean() -> None:
    rows = np.random.default_rng(2).normal(size=(3, 4))
    np.testing.assert_allclose(pool(rows * [[1], [50], [0.01]]), pool(rows), atol=1e-12)
    worst = np.full(3, 1e-3)
    np.testing.assert_allclose(pool(rows, worst, "quality", CALIBRATION), pool(rows), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.eye(2), None, "median"), ConfigError, "median"),
        ((np.eye(2), None, "norm"), ConfigError, "norms"),
        ((np.eye(2), np.ones(2), "quality"), ConfigError, "calibration"),
        ((np.eye(2), np.ones(3), "norm"), DataError, "(2,)"),
        ((np.eye(2), np.array([1, 0]), "norm"), DataError, "above 0"),
        ((np.zeros((0, 2)),), DataError, "at least 1"),
        ((np.array([[1.0, 0], [0, 0]]),), DataError, "embedding 1"),
        ((np.array([[1.0, 0], [np.nan, 0]]),), DataError, "embedding 1"),
        ((np.array([[1.0, 0], [-1.0, 0]]),), DataError, "cancel"),
    ],
)
def test_refused(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        pool(*arguments)

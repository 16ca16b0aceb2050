"""Spectrum and norms of a policy's views beside probes: rings by a loop, and a policy that is its own probe."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from qgface_plugin.config.degradation import ADAFACE, OURS
from qgface_plugin.data.procedural.face import draw_face
from qgface_plugin.evaluation.degradation_gap import RINGS, degraded, gaps, kolmogorov_smirnov, log_spectrum


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.array([draw_face(number, number) for number in range(40)])


def test_the_spectrum_is_the_loop():
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    expected = np.zeros(RINGS)
    window = [[math.sin(math.pi * r / 11) ** 2 * math.sin(math.pi * c / 11) ** 2 for c in range(12)] for r in range(12)]
    power_of_window = sum(w * w for row in window for w in row)
    for image in images:
        grey = [[0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] for p in row] for row in image.astype(float)]
        mean = sum(map(sum, grey)) / 144
        rings = [[] for _ in range(RINGS)]
        for u in range(12):
            for v in range(7):
                value = sum(
                    (grey[r][c] - mean) * window[r][c] * np.exp(-2j * math.pi * (u * r + v * c) / 12)
                    for r in range(12)
                    for c in range(12)
                )
                at = int(math.hypot(min(u, 12 - u) / 12, v / 12) * 2 * RINGS)
                if at < RINGS:
                    rings[at].append(abs(value) ** 2 / power_of_window)
        expected += [10 * math.log10((sum(r) / len(r) if r else 0.0) + 1 / 12) / 2 for r in rings]
    np.testing.assert_allclose(log_spectrum(images), expected, atol=1e-6)


def test_white_noise_is_flat():
    noise = np.clip(np.random.default_rng(0).normal(128, 20, (10, 112, 112, 1)), 0, 255).astype(np.uint8)
    found = log_spectrum(np.repeat(noise, 3, axis=3))
    assert np.abs(found[2:] - 10 * math.log10(400)).max() < 0.6


def test_a_policy_is_nearest_to_its_own_views(faces):
    probes = degraded(faces, OURS, 3)
    sets = {name: degraded(faces, policy, 0) for name, policy in (("plain", None), ("a", ADAFACE), ("e", OURS))}
    found = gaps((probes, probes.std(axis=(1, 2, 3))), {n: (i, i.std(axis=(1, 2, 3))) for n, i in sets.items()})
    assert found["e"].spectrum_db < 0.5 * found["a"].spectrum_db < 0.5 * found["plain"].spectrum_db + 1
    assert found["plain"].high_db > 5 and abs(found["e"].high_db) < 3
    same = gaps((probes, np.arange(40.0)), {"same": (probes, np.arange(40.0))})["same"]
    assert (same.spectrum_db, same.high_db, same.norm_ks, same.norm_mean) == (0, 0, 0, 19.5)


def test_the_distance_of_distributions_is_scipys():
    rng = np.random.default_rng(0)
    for first, second in ((rng.normal(0, 1, 50), rng.normal(1, 1, 31)), (np.array([1.0, 1, 2]), np.array([1.0, 3]))):
        assert kolmogorov_smirnov(first, second) == pytest.approx(ks_2samp(first, second).statistic, abs=1e-12)

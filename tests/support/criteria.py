"""Small criteria and batches in float64 for the tests of QGPartialFC."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.config.method import QGFaceConfig

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

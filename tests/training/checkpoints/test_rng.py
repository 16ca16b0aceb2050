"""Random states: through a file and back, the same draws."""

from __future__ import annotations

import random

import numpy as np
import torch

from qgface_plugin.training.checkpoints.rng import restore_rng, rng_state
from qgface_plugin.utils.torch_files import load, save


def draws() -> list:
    legacy = [*np.random.rand(3), np.random.randn()]  # noqa: NPY002
    values = [random.random(), random.gauss(0, 1), *legacy, *torch.rand(3).tolist()]
    return values + (torch.rand(3, device="cuda").tolist() if torch.cuda.is_available() else [])


def test_restored_generators_draw_the_same(tmp_path):
    before = rng_state()
    try:
        random.gauss(0, 1), np.random.randn()  # noqa: NPY002 - both hold a second normal number back
        save(tmp_path / "rng.pt", {"rng": rng_state()})
        first = draws()
        assert draws() != first
        restore_rng(load(tmp_path / "rng.pt")["rng"])
        assert draws() == first
    finally:
        restore_rng(before)

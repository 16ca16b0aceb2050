"""ROC plots: a PNG with the curves that were given."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from qgface_plugin.evaluation.metrics import Roc
from qgface_plugin.evaluation.plots import plot_roc
from qgface_plugin.utils.errors import ConfigError


def curve(exponent: float) -> Roc:
    far = np.arange(0, 10_001)
    return Roc(far, np.round(500 * (far / 10_000) ** exponent).astype(np.int64))


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "roc.png"
    plot_roc({"one": curve(0.1)}, path, "IJBB")
    alone = cv2.imread(str(path))
    plot_roc({"one": curve(0.1), "two": curve(0.3)}, path, "IJBB")
    both = cv2.imread(str(path))
    assert alone.shape == both.shape and alone.shape[1] > 600
    blue, orange = (180, 119, 31), (14, 127, 255)  # BGR
    assert (alone == blue).all(axis=2).sum() > 300 and not (alone == orange).all(axis=2).any()
    assert (both == orange).all(axis=2).sum() > 100


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ConfigError, match=r"needs matplotlib, which is not installed: pip install 'qgface-plugin\[eval\]'"
    ):
        plot_roc({"one": curve(0.5)}, tmp_path / "roc.png", "IJBB")

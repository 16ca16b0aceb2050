"""The figure of similarities is a PNG of the right content, whatever is missing."""

from __future__ import annotations

import builtins
import copy

import cv2
import numpy as np
import pytest

from qgface_plugin.evaluation.protocols.scface import EDGES
from qgface_plugin.evaluation.similarity_figure import draw_similarities
from qgface_plugin.utils.errors import ConfigError, DataError


@pytest.fixture
def results() -> dict:
    rng = np.random.default_rng(0)

    def part(mean):
        values = rng.normal(mean, 0.1, 200)
        return {"mean": mean, "std": 0.1, "count": 200, "histogram": np.histogram(values, EDGES)[0].tolist()}

    return {
        "rank1": {"d1": 0.5, "d2": 0.75},
        "similarity": {d: {"same": part(0.5), "other": part(0.0), "gap": 0.5} for d in ("d1", "d2")},
        "histogram_edges": EDGES.tolist(),
    }


def pixels(path) -> np.ndarray:
    return cv2.imread(str(path))


def test_one_and_two_models(tmp_path, results):
    one = draw_similarities(tmp_path / "deep" / "one.png", {"a": results})
    two = draw_similarities(tmp_path / "two.png", {"a": results, "b": copy.deepcopy(results)})
    assert one.read_bytes()[:4] == b"\x89PNG" and pixels(one).shape[1] > 2 * pixels(one).shape[0]
    assert pixels(one).std() > 10 and not np.array_equal(pixels(one), pixels(two))


def test_a_distance_without_probes(tmp_path, results):
    results["rank1"]["d2"] = None
    results["similarity"]["d2"] = {
        kind: {"mean": None, "std": None, "count": 0, "histogram": [0] * 80} for kind in ("same", "other")
    }
    assert pixels(draw_similarities(tmp_path / "x.png", {"a": results})).std() > 5


def test_a_place_that_cannot_be_written(tmp_path, results):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="the figure cannot be written"):
        draw_similarities(tmp_path / "file" / "x.png", {"a": results})


def test_without_matplotlib(tmp_path, results, monkeypatch):
    plain = builtins.__import__

    def absent(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"a figure needs matplotlib: pip install 'qgface-plugin\[eval\]'"):
        draw_similarities(tmp_path / "x.png", {"a": results})

"""Plots of evaluations: a PNG with the curves that were given, and Fig. 5, whatever is missing."""

from __future__ import annotations

import builtins
import copy
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from qgface_plugin.evaluation.metrics.verification import Roc
from qgface_plugin.evaluation.protocols.scface import EDGES
from qgface_plugin.evaluation.report.canvas import new_figure
from qgface_plugin.evaluation.report.plots import draw_similarities, plot_roc, similarity_panels
from qgface_plugin.utils.errors import ConfigError, DataError


def curve(exponent: float) -> Roc:
    far = np.arange(0, 10_001)
    return Roc(far, np.round(500 * (far / 10_000) ** exponent).astype(np.int64), -np.linspace(-1, 1, len(far)))


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
    with pytest.raises(ConfigError, match=r"pip install matplotlib$"):
        plot_roc({"one": curve(0.5)}, tmp_path / "roc.png", "IJBB")


@pytest.fixture
def results() -> dict:
    rng = np.random.default_rng(0)

    def part(mean):
        values = rng.normal(mean, 0.1, 200)
        return {"mean": mean, "std": 0.1, "count": 200, "histogram": np.histogram(values, EDGES)[0].tolist()}

    return {
        "rank1": {"d1": 0.5, "d2": 0.75},
        "similarity": {
            d: {"same": part(0.5), "other": part(0.0), "gap": 0.5, "nearest": part(0.3), "lead": 0.2}
            for d in ("d1", "d2")
        },
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
        kind: {"mean": None, "std": None, "count": 0, "histogram": [0] * 80} for kind in ("same", "other", "nearest")
    } | {"lead": None}
    assert pixels(draw_similarities(tmp_path / "x.png", {"a": results})).std() > 5


def titles(models: dict) -> tuple[list[str], list[str]]:
    figure = new_figure(8, 4)
    similarity_panels(figure, models)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    return [panel.get_title() for panel in figure.axes], legend


def test_titles_have_the_gain_in_lead(results):
    weak, none = copy.deepcopy(results), copy.deepcopy(results)
    weak["similarity"]["d1"]["lead"], none["similarity"]["d1"]["lead"] = 0.025, -0.05
    found, legend = titles({"a": results, "b": weak})
    assert found[0] == "d1: lead +700.0 %\na: lead 0.200, rank-1 50.00 %\nb: lead 0.025, rank-1 50.00 %"
    assert found[1].startswith("d2: lead +0.0 %")
    assert legend == ["a, same person", "a, most similar other", "b, same person", "b, most similar other"]
    assert titles({"a": results, "b": none})[0][0].startswith("d1: lead +0.250\n")  # of nothing there is no percentage
    assert titles({"a": results})[0][0].startswith("d1\n")


def test_results_of_earlier_versions_have_all_others(results):
    old = copy.deepcopy(results)
    for part in old["similarity"].values():
        del part["nearest"], part["lead"]
    found, legend = titles({"a": results, "b": old})
    assert found[0] == "d1\na: lead 0.200, rank-1 50.00 %\nb: rank-1 50.00 %" and legend[1] == "a, others"


def test_a_place_that_cannot_be_written(tmp_path, results):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="x.png"):
        draw_similarities(tmp_path / "file" / "x.png", {"a": results})


def test_similarities_without_matplotlib(tmp_path, results, monkeypatch):
    plain = builtins.__import__

    def absent(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install matplotlib$"):
        draw_similarities(tmp_path / "x.png", {"a": results})


def test_labels_that_are_no_utf8(tmp_path: Path, results: dict) -> None:
    pytest.importorskip("matplotlib")
    name = os.fsdecode(b"Jos\xe9.pt")
    plot_roc({name: curve(0.1)}, tmp_path / f"{name}.png", name)
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
    assert draw_similarities(tmp_path / "s.png", {name: results}).is_file()

"""recipes/quality: setting E with each source of quality, and one source with each queue; two steps of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paths import RECIPES
from tiny import two_steps

from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.utils.registry import QUALITY_SOURCES, QUEUE_KINDS

FOLDER = RECIPES / "quality"
RECIPES = sorted(FOLDER.glob("*.py"))
ROWS = {  # source of quality, queue, gate of the classification
    "quality_norm": ("norm", "proxy", "exact"),
    "quality_degradation": ("degradation", "proxy", "exact"),
    "quality_certainty": ("certainty", "proxy", "exact"),
    "quality_sharpness": ("sharpness", "proxy", "exact"),
    "degradation_none": ("degradation", "none", "exact"),
    "degradation_batch": ("degradation", "batch", "exact"),
    "degradation_momentum": ("degradation", "momentum", "exact"),
    "degradation_all": ("degradation", "proxy", "none"),
    "degradation_momentum_all": ("degradation", "momentum", "none"),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_differs_from_the_paper_in_source_share_queue_and_gate_alone(path):
    run, base = load_recipe(path, {}), load_recipe(FOLDER.parent / "qgface_r34.py", {})
    source, queue, gate = ROWS[path.stem]
    expected = replace(base.qgface, quality=source, queue=queue, classification_gate=gate, b_quantile=0.3)
    assert run.qgface == expected
    expected, found = base.as_dict(), run.as_dict()
    same = ("qgface", "name", "output")
    assert {k: v for k, v in found.items() if k not in same} == {k: v for k, v in expected.items() if k not in same}
    assert f"train_v2.py recipes/quality/{path.name}" in path.read_text().split('"""')[1]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_takes_two_steps_and_contrasts(path, tmp_path, monkeypatch):
    lines = two_steps(path, tmp_path, monkeypatch, batch_size=8)
    assert all(0 < line["lq_share_pair"] < 1 for line in lines)


def test_every_built_in_source_and_queue_has_a_recipe():
    assert set(ROWS) == {path.stem for path in RECIPES}
    own = {name for name, source in QUALITY_SOURCES.items() if source.module.startswith("qgface_plugin.")}
    taught = {"teacher"}  # of an encoder to start from, which these recipes lack: tests/training/test_teacher_runs.py
    assert {source for source, _, _ in ROWS.values()} == own - taught
    assert {queue for _, queue, _ in ROWS.values()} == set(QUEUE_KINDS) - taught

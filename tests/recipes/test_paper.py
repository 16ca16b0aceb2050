"""Every row of the paper's tables: its recipe loads, says what the row says, and takes two steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paths import RECIPES
from tiny import two_steps

from qgface_plugin.config.degradation import ADAFACE, OURS
from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.experiments.paper import TABLES

FOLDER = RECIPES / "paper"
RECIPES = sorted(FOLDER.glob("*.py"))
OPEN, GATED = "none", "exact"  # gates
# degraded view, gate of the classification, gate of the contrast, b, queue
ROWS = {
    "table1_baseline": (None, OPEN, GATED, 0.2, "none"),
    "table1_a": (ADAFACE, OPEN, GATED, 0.2, "none"),
    "table1_b": (ADAFACE, GATED, GATED, 0.2, "none"),
    "table1_c": (ADAFACE, GATED, GATED, 0.2, "proxy"),
    "table1_d": (OURS, OPEN, GATED, 0.2, "none"),
    "table1_e": (OURS, GATED, GATED, 0.2, "proxy"),
    "table2_none": (OURS, GATED, GATED, 0.2, "none"),
    "table2_batch": (OURS, GATED, GATED, 0.2, "batch"),
    "table2_momentum": (OURS, GATED, GATED, 0.2, "momentum"),
    "table2_proxy": (OURS, GATED, GATED, 0.2, "proxy"),
    "table3_none": (OURS, OPEN, OPEN, 0.2, "proxy"),
    "table3_b01": (OURS, GATED, GATED, 0.1, "proxy"),
    "table3_b02": (OURS, GATED, GATED, 0.2, "proxy"),
    "table3_b03": (OURS, GATED, GATED, 0.3, "proxy"),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_is_its_row_and_nothing_else_differs(path):
    run, base = load_recipe(path, {}), load_recipe(FOLDER.parent / "qgface_r34.py", {})
    degradation, classified, contrasted, b, queue = ROWS[path.stem]
    assert run.degradation == degradation
    method = replace(
        base.qgface, classification_gate=classified, contrastive_gate=contrasted, b=b, queue=queue
    )  # fmt: skip
    assert run.qgface == method
    same = ("degradation", "qgface", "name", "output")
    expected, found = base.as_dict(), run.as_dict()
    assert {k: v for k, v in found.items() if k not in same} == {k: v for k, v in expected.items() if k not in same}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_takes_two_steps(path, tmp_path, monkeypatch):
    two_steps(path, tmp_path, monkeypatch, batch_size=2)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_says_how_it_is_launched_and_what_the_paper_says(path):
    text = path.read_text().split('"""')[1]
    assert f"train_v2.py recipes/paper/{path.name}" in text
    paper = next(row.paper for table in TABLES.values() for row in table.rows if row.recipe == path.stem)
    own = path.stem not in ("table2_proxy", "table3_b02")  # these name the recipe that has the numbers
    for number in paper.values() if own else ():
        assert f"{number:.2f}" in text or f"{number:.1f}" in text


def test_every_row_has_a_recipe_and_every_recipe_a_row():
    rows = [row.recipe for table in TABLES.values() for row in table.rows]
    assert sorted(rows) == sorted(path.stem for path in RECIPES) == sorted(ROWS)

"""recipes/degradation: setting E with one more step of degradation, or all of them; two steps of the last one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paths import RECIPES

from qgface_plugin.config.degradation import OURS
from qgface_plugin.config.recipe import load_recipe

FOLDER = RECIPES / "degradation"
STEPS = {
    "misalign": {"misalign_p": 0.5},
    "motion": {"motion_p": 0.3},
    "atmosphere": {"atmosphere_p": 0.3},
    "noise": {"noise_p": 0.5},
}
ROWS = STEPS | {"camera": {key: value for step in STEPS.values() for key, value in step.items()}}


def test_every_recipe_is_here():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_differs_from_the_paper_in_its_steps_alone(name):
    path = FOLDER / f"{name}.py"
    run, base = load_recipe(path, {}), load_recipe(RECIPES / "qgface_r34.py", {})
    assert run.degradation == replace(OURS, **ROWS[name])
    assert run.qgface == base.qgface
    assert f"train_v2.py recipes/degradation/{name}.py" in path.read_text().split('"""')[1]

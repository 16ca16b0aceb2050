"""Recipes with changes from the outside, written out flat."""

from __future__ import annotations

from pathlib import Path

import pytest
from paths import RECIPES

from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.experiments.flat_recipe import fingerprint, flat_text, resolve
from qgface_plugin.utils.errors import ConfigError

PAPER = RECIPES / "paper"
E = PAPER / "table1_e.py"


def test_a_flat_recipe_says_what_the_recipe_says(tmp_path):
    for path in sorted(PAPER.glob("*.py")):
        flat = tmp_path / path.name
        flat.write_text(flat_text(resolve(path, {}), ["about", "it"]))
        assert load_recipe(flat, {}).as_dict() == load_recipe(path, {}).as_dict()
        assert "load_config" not in flat.read_text() and flat.read_text().startswith('"""about\nit\n"""')


def test_changes(tmp_path):
    changes = {"network": "mbf", "qgface.train.threads": 1, "qgface.b": 0.3, "qgface.data.on_corrupt": "skip"}
    flat = tmp_path / "changed.py"
    flat.write_text(flat_text(resolve(E, changes), ["x"]))
    run = load_recipe(flat, {})
    assert (run.network, run.train.threads, run.qgface.b, run.data.on_corrupt) == ("mbf", 1, 0.3, "skip")
    assert run.train.features_bias is False and "threads" not in resolve(E, {})["qgface"]["train"]


@pytest.mark.parametrize(
    "epochs, milestones, schedule",
    [(24, [12, 18], "step"), (4, [2, 3], "step"), (2, [1], "step"), (1, (), "polynomial")],
)
def test_milestones_move_with_the_length(epochs, milestones, schedule):
    train = resolve(E, {}, epochs)["qgface"]["train"]
    assert (train["milestones"], train["schedule"]) == (milestones, schedule)


def test_what_cannot_be_changed():
    with pytest.raises(ConfigError, match="network.size .* config.network is 'r34' and no group in .*table1_e.py"):
        resolve(E, {"network.size": 60})
    with pytest.raises(ConfigError, match="config.notes is"):
        flat_text({"notes": Path("x")}, ["x"])


def test_fingerprint_is_of_what_is_trained():
    mark = fingerprint(resolve(E, {}))
    assert (
        mark == fingerprint(resolve(PAPER / "table2_proxy.py", {})) == fingerprint(resolve(PAPER / "table3_b02.py", {}))
    )
    assert mark == fingerprint(resolve(E, {"seed": 5, "output": "x", "num_workers": 9}))
    others = [fingerprint(resolve(path, {})) for path in PAPER.glob("*.py")]
    assert len(set(others)) == 12  # 14 rows, three of which are E
    assert mark != fingerprint(resolve(E, {"lr": 0.1}))

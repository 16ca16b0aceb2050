"""Recipes of the package: found by name from anywhere, listed, and copied to work on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from paths import RECIPES

from qgface_plugin.config import load_config, load_recipe
from qgface_plugin.config.degradation import ADAFACE
from qgface_plugin.config.packaged import checkout, packaged_names, packaged_recipe, recipe_folder, working_copy
from qgface_plugin.utils.errors import ConfigError

NAMES = [path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.py")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, caplog) -> Path:
    caplog.set_level(logging.INFO, "qgface_plugin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_where_they_are():
    assert recipe_folder() == RECIPES and checkout() == RECIPES.parent
    found = packaged_names()
    assert sorted(found) == sorted(NAMES) and len(NAMES) > 25
    assert found["quickstart"].startswith("The whole chain on a machine without data")


@pytest.mark.parametrize(
    "name", ["..", ".", "", "paper", "none", "/qgface_r34", "paper/../qgface_r34", "qgface_r34.txt"]
)
def test_what_is_none(name):
    assert packaged_recipe(name) is None


def test_by_name_from_anywhere(caplog):
    run = load_recipe("qgface_r34", {})
    assert (
        run.as_dict() == load_recipe(RECIPES / "qgface_r34.py", {}).as_dict() and run.output == "work_dirs/qgface_r34"
    )
    assert caplog.messages[0] == f"recipe of the package: {RECIPES / 'qgface_r34.py'}"
    assert load_recipe("paper/table1_a", {}).degradation == ADAFACE
    assert load_recipe("quickstart.py", {}).network == "quick"


def test_a_file_where_the_user_stands_comes_first(elsewhere, caplog):
    (elsewhere / "qgface_r34.py").write_text("from easydict import EasyDict\nconfig = EasyDict(lr=0.7)\n")
    (elsewhere / "mine.py").write_text(
        "from qgface_plugin.config import load_config\nconfig = load_config(__file__, 'qgface_r34.py')\n"
    )
    assert load_recipe("qgface_r34", {}).lr == load_recipe("mine.py", {}).lr == 0.7
    assert caplog.messages == ["recipe: qgface_r34.py", "recipe: mine.py"]


def test_a_recipe_that_starts_from_one_of_the_package(elsewhere, caplog):
    for name, base in (
        ("a", "qgface_r34.py"),
        ("b", "../qgface_r34.py"),
        ("c", "paper/table1_e.py"),
        ("d", "qgface_r34"),
    ):
        (elsewhere / f"{name}.py").write_text(
            f"from qgface_plugin.config import load_config\nconfig = load_config(__file__, {base!r})\nconfig.lr = 0.7\n"
        )
        run = load_recipe(f"{name}.py", {})
        assert (run.network, run.lr, run.output) == ("r34", 0.7, f"work_dirs/{name}")
    assert f"{elsewhere / 'a.py'} starts from the recipe of the package {RECIPES / 'qgface_r34.py'}" in caplog.messages


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_the_recipe(name, elsewhere, monkeypatch):
    monkeypatch.setenv("INIT_FROM", "model.pt")  # of those that start from an encoder
    path = packaged_recipe(name)
    text = working_copy(path, "my.py")
    (elsewhere / "my.py").write_text(text)
    mine, theirs = load_recipe("my.py", {}).as_dict(), load_recipe(path, {}).as_dict()
    assert {key for key in mine if mine[key] != theirs[key]} == {"name", "output"}
    assert "../qg" not in text and "train_v2.py" not in text and " train my.py" in text.split('"""')[1]


def test_a_recipe_that_is_nowhere():
    with pytest.raises(ConfigError, match=r"no recipe recipes/quickstart.py: .*; write `quickstart` for the package's"):
        load_recipe("recipes/quickstart.py", {})
    with pytest.raises(ConfigError, match="`qgface recipe` lists those of the package"):
        load_recipe("nothing", {})
    Path("x.py").write_text("from qgface_plugin.config import load_config\nconfig = load_config(__file__, 'none.py')\n")
    with pytest.raises(ConfigError, match="there is no recipe .*none.py"):
        load_recipe("x.py", {})
    assert load_config("anywhere.py", "qgface_r34").network == "r34"

"""What users wrote for version 0.1 goes on working: recipes of that version's guide, and what its pages named."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import warnings

import pytest
from paths import ROOT, TESTS
from recipe_runs import two_steps
from tiny import tiny_model, write_faces

from qgface_plugin.training import build
from qgface_plugin.training.trainer import train
from qgface_plugin.utils import former_paths
from qgface_plugin.utils.former_paths import FORMER
from qgface_plugin.utils.registry import DEGRADATION_STEPS, MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS

RECIPES = sorted((TESTS / "data" / "recipes_0_1").glob("*.py"))  # as docs/own_parts.md had them
QUIET = [name for name in FORMER if name != "hosts.autoload"]  # that one works at import, see test_attach


@pytest.fixture(autouse=True)
def _forget():
    """Former paths are new to this process, and afterwards the names that recipes add are gone."""
    tables = (MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS, DEGRADATION_STEPS)
    before = [dict(table) for table in tables]
    for name in FORMER:
        sys.modules.pop(f"qgface_plugin.{name}", None)
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_former_guide_trains(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    shutil.copy(ROOT / "recipes" / "lfw_mbf.py", tmp_path)
    path = shutil.copy(recipe, tmp_path)
    asked = re.findall(r"(?m)^from (qgface_plugin\.\S+) import", recipe.read_text())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        run = two_steps(path, tmp_path)
    notices = [notice for notice in said if notice.category is FutureWarning]
    assert [str(notice.message).partition(" ")[0] for notice in notices] == asked
    assert {notice.filename for notice in notices} == {str(path)}
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        two_steps(path, tmp_path)
    assert [notice for notice in again if notice.category is FutureWarning] == []
    train(run)


@pytest.mark.parametrize("name", QUIET)
def test_the_line_that_a_notice_names_gives_the_same(name):
    line = FORMER[name][1] or "from qgface_plugin.launch import run_recipe"
    now: dict[str, object] = {}
    exec(line, now)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        former = importlib.import_module(f"qgface_plugin.{name}")
    assert [line in str(notice.message) for notice in said] == [True] * (FORMER[name][1] is not None)
    for word in re.findall(r"\w+", line.partition(" import ")[2]):
        assert getattr(former, word) is now[word]


def test_the_new_line_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec("from qgface_plugin.config import load_config\nfrom qgface_plugin import data, evaluation", {})


def test_other_names_stay_unknown():
    for name in ("qgface_plugin.receipt", "qgface_plugin.data.recipe", "recipe", "qgface_plugin.hosts.builtin"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from qgface_plugin.hosts import nothing", {})


def test_every_former_path_is_gone_from_the_package():
    finders = len(sys.meta_path)
    former_paths.install()
    assert len(sys.meta_path) == finders
    for name in FORMER:
        path = ROOT.joinpath("qgface_plugin", *name.split("."))
        assert not path.exists() and not path.with_suffix(".py").exists(), (
            f"{name} stands in the way of its former self"
        )

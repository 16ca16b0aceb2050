"""The reference of the settings: every key that a recipe may have, and what is said of it, is what the checks do."""

from __future__ import annotations

import ast

import pytest

from qgface_plugin.config.method import AUTHORS
from qgface_plugin.config.recipe import HOMES, load_recipe
from qgface_plugin.config.reference import GROUPS, every_key, find
from qgface_plugin.utils.errors import ConfigError

KEYS = every_key()
GROUP_NAMES = {group.rpartition(".")[2] for group in GROUPS} | {"authors"}


def test_every_key_is_there_once_with_a_meaning():
    for group, names in HOMES.items():
        assert sorted(key.name for key in KEYS if key.group == group) == sorted({*names} - GROUP_NAMES)
    assert len({key.path for key in KEYS}) == len(KEYS)
    assert [key.path for key in KEYS if not key.meaning or not (key.allowed or key.choices)] == []


def loaded(tmp_path, key, value):
    """A recipe that sets one key to what Python makes of the text."""
    lines = ["from easydict import EasyDict as edict", "config = edict(qgface=edict())"]
    groups = [group for group in GROUPS if key.group.startswith(group) and group not in ("config", "config.qgface")]
    lines += [f"{group} = edict()" for group in groups]
    path = tmp_path / "one.py"
    path.write_text("\n".join([*lines, f"{key.path} = {value}"]))
    return load_recipe(path, {})


@pytest.mark.parametrize("key", [key for key in KEYS if "<" not in key.default], ids=lambda key: key.path)
def test_the_default_that_is_named_is_the_default(key, tmp_path):
    """Up to the four digits that are shown."""
    run = loaded(tmp_path, key, key.default)
    group = key.group.removeprefix("config").removeprefix(".")
    holder = {"": run, "qgface": run.qgface}.get(group) or getattr(run, group.removeprefix("qgface."))
    value, shown = getattr(holder, key.name), ast.literal_eval(key.default)
    assert value == (pytest.approx(shown, rel=1e-3) if "." in key.default else shown)


@pytest.mark.parametrize("key", [key for key in KEYS if key.choices], ids=lambda key: key.path)
def test_what_is_no_choice_is_refused(key, tmp_path):
    assert key.default in key.choices
    with pytest.raises(ConfigError, match=key.path):
        loaded(tmp_path, key, '"no such thing"')


@pytest.mark.parametrize("key", [key for key in KEYS if ", from " in key.allowed], ids=lambda key: key.path)
def test_the_bound_that_is_named_is_the_bound(key, tmp_path):
    low = float(key.allowed.rpartition(", from ")[2])
    below = int(low) - 1 if key.allowed.startswith("int") else low - 0.5
    with pytest.raises(ConfigError, match=key.path):
        loaded(tmp_path, key, repr(below))


def test_the_authors_values():
    assert {
        key.name: ast.literal_eval(key.preset) for key in KEYS if key.group == "config.qgface" and key.preset
    } == AUTHORS


@pytest.mark.parametrize(
    ("word", "paths"),
    [
        ("lr", ["config.lr"]),
        ("qgface.b", ["config.qgface.b"]),
        ("config.qgface.train.gamma", ["config.qgface.train.gamma"]),
        ("dali", ["config.dali"]),
        ("NVIDIA", ["config.dali", "config.dali_aug"]),
        ("zzz", []),
    ],
)
def test_find(word, paths):
    assert [key.path for key in find(word)] == paths


def test_find_a_group():
    assert {key.group for key in find("data")} == {"config.qgface.data"}


def test_what_only_one_trainer_does_is_said():
    said = {key.path: key.meaning for key in KEYS}
    assert said["config.margin_list"].endswith(
        "No effect here: the margin comes from config.qgface.margin and config.qgface.m"
    )
    assert said["config.qgface.train.compile"].endswith("No effect in a checkout's loop")
    assert "No effect" not in said["config.lr"] + said["config.qgface.train.schedule"]

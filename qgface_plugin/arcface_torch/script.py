"""Training script of a checkout, read without running it: what it does with its parts that QGFace could not serve."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ..config.run import Run
from ..config.schema import names_of
from .checkout import SCRIPT, parse

CRITERION, SETTINGS = "PartialFC_V2", "get_config"


def script_problems(checkout: Path) -> list[str]:
    """Why the `train_v2.py` of a checkout, a fork perhaps, cannot train QGFace's recipes; empty where it can.

    Looked for are settings that neither its `configs/base.py` nor a recipe has, and a criterion that goes to another
    function: that calls it more than once a step, or with other rows than the loader gave, and QGFace's counts steps
    and pairs its rows.

    Args:
        checkout: its folder.

    Raises:
        ConfigError: a file is no Python.
    """
    script, base = checkout / SCRIPT, checkout / "configs" / "base.py"
    tree = parse(script, script.read_bytes())
    problems = []
    own = _set_in(parse(base, base.read_bytes())) if base.is_file() else set()
    if missing := _read_settings(tree) - own - set(names_of(Run)):
        keys = ", ".join(f"config.{name}" for name in sorted(missing))
        problems.append(
            f"{script} reads {keys}, which neither {base} nor a recipe of QGFace sets: this is a fork that trains "
            "something of its own. By hand: set them in its configs/base.py"
        )
    for name in _assigned_from(tree, CRITERION):
        for call, line in _handed_over(tree, name):
            problems.append(
                f"{script} line {line} hands its criterion to {call}(): expected is one call a step, with the rows as "
                "the loader gives them, so QGFace cannot stand in for it. By hand: take that call out"
            )
    return problems


def _set_in(tree: ast.Module) -> set[str]:
    """The keys that a file of settings sets, in any of the usual ways."""
    found = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found |= {word.arg for word in node.keywords if word.arg}
        keys = node.keys if isinstance(node, ast.Dict) else [node.slice] if isinstance(node, ast.Subscript) else []
        found |= {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return found


def _read_settings(tree: ast.Module) -> set[str]:
    """The settings that the script reads and has not set itself."""
    names = _assigned_from(tree, SETTINGS)
    read: set[str] = set()
    stored: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            (stored if isinstance(node.ctx, ast.Store) else read).add(node.attr)
    return read - stored - set(dir(dict))


def _assigned_from(tree: ast.Module, function: str) -> set[str]:
    """The names that take what a function returns."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name) and node.value.func.id == function
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _handed_over(tree: ast.Module, name: str) -> Iterator[tuple[str, int]]:
    """(function, line) of the calls that get the object of that name itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = [*node.args, *(word.value for word in node.keywords)]
            if any(isinstance(value, ast.Name) and value.id == name for value in given):
                yield ast.unparse(node.func), node.lineno

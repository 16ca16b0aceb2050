"""Flat recipe: one with everything that was changed from the outside, in a file that can be read and run again."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

from ..config.changes import changed
from ..config.recipe import import_listed, load_config
from ..config.schema import as_mapping
from ..utils.errors import ConfigError

# Settings that say how and where a run is made, not what is trained.
NOT_THE_EXPERIMENT = frozenset(
    ("seed", "output", "resume", "num_workers", "frequent", "verbose", "notes", "host", "imports")
)


def resolve(recipe: str | Path, changes: Mapping[str, Any], epochs: int | None = None) -> dict[str, Any]:
    """The recipe's `config` as plain values, with changes on top.

    Args:
        recipe: its file.
        changes: by dotted key ("qgface.train.threads").
        epochs: another length of training; milestones of the learning rate move in proportion, and where none is left
            before the end the schedule is polynomial.

    Raises:
        ConfigError: as `load_config`, and for a key in no group.
    """
    path = Path(recipe)
    config = _plain(load_config(path, path.name if path.suffix == ".py" else f"{path.name}.py"))
    if epochs is not None:
        _stretch(config, epochs)
    config = changed(config, changes, path)
    files = import_listed(config, path.parent)
    return {**config, "imports": files} if files else config


def _stretch(config: dict[str, Any], epochs: int) -> None:
    before = config.get("num_epoch", 20)
    config["num_epoch"] = epochs
    train = config.get("qgface", {}).get("train", {})
    if milestones := train.get("milestones"):
        moved = sorted({round(epochs * milestone / before) for milestone in milestones})
        kept = [milestone for milestone in moved if 0 < milestone < epochs]
        train |= {"milestones": kept} if kept else {"milestones": (), "schedule": "polynomial"}


def fingerprint(config: Mapping[str, Any]) -> str:
    """Eight characters that two recipes share when they train the same, whatever their seed, folder and name.

    Example:
        >>> fingerprint({"lr": 0.1, "seed": 1}) == fingerprint({"lr": 0.1, "seed": 2})
        True
    """
    kept = {key: value for key, value in config.items() if key not in NOT_THE_EXPERIMENT}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def flat_text(config: Mapping[str, Any], about: Sequence[str]) -> str:
    """The text of the recipe file.

    Args:
        config: plain values, in groups.
        about: lines of its docstring.

    Raises:
        ConfigError: a value that is no Python literal.
    """
    lines = ['"""' + "\n".join(about), '"""', "", "from easydict import EasyDict as edict", "", "config = edict()"]
    _assign(lines, "config", config)
    return "\n".join(lines) + "\n"


def _assign(lines: list[str], name: str, group: Mapping[str, Any]) -> None:
    nested = {key: value for key, value in group.items() if isinstance(value, Mapping)}
    for key, value in group.items():
        if key in nested:
            continue
        if not _is_literal(value):
            raise ConfigError(f"{name}.{key} is {value!r}: only plain values can be written into a recipe")
        lines.append(f"{name}.{key} = {value!r}")
    for key, value in nested.items():
        lines.extend(["", f"{name}.{key} = edict()"])
        _assign(lines, f"{name}.{key}", value)


def _is_literal(value: Any) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, EasyDict | Mapping):
        return {key: _plain(entry) for key, entry in as_mapping(value, "config").items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value

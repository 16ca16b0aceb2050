"""Changes to a recipe from the command line: KEY=VALUE, with dots between groups, on top of what its file says."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from ..utils.errors import ConfigError
from .schema import as_mapping

SECRETS = ("wandb_key",)


def parse_change(text: str) -> tuple[str, Any]:
    """Key and value of "KEY=VALUE". A value that is no Python literal is text.

    Args:
        text: as typed; `config.` in front of the key, as messages have it, may be there.

    Raises:
        ConfigError: there is no `=`, or no key, or it is a secret's.

    Example:
        >>> parse_change("lr=0.02"), parse_change("config.network=r34")
        (('lr', 0.02), ('network', 'r34'))
    """
    key, separator, value = text.partition("=")
    key = key.strip().removeprefix("config.")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"{text!r} sets nothing: write KEY=VALUE, such as lr=0.02 or qgface.train.threads=1")
    if key in SECRETS:
        raise ConfigError(
            f"{key} is a secret, and command lines are seen by others and kept by W&B: set WANDB_API_KEY instead"
        )
    try:
        return key, ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return key, value.strip()


def changed(config: Mapping[str, Any], changes: Mapping[str, Any], source: object) -> dict[str, Any]:
    """A recipe's `config` with changes on top; `config` stays as it is.

    Groups that are not there are made. A degradation that is a name becomes the group of that preset when one of its
    settings is changed.

    Args:
        config: of the recipe.
        changes: by dotted key ("qgface.train.threads").
        source: the recipe, for the message.

    Raises:
        ConfigError: a key in no group.

    Example:
        >>> changed({"lr": 0.1, "qgface": {"b": 0.2}}, {"qgface.b": 0.3}, "x.py")
        {'lr': 0.1, 'qgface': {'b': 0.3}}
        >>> changed({"qgface": {"degradation": "ours"}}, {"qgface.degradation.jpeg_quality": 60}, "x.py")
        {'qgface': {'degradation': {'policy': 'ours', 'jpeg_quality': 60}}}
    """
    result = {key: _copy(value) for key, value in config.items()}
    for key, value in changes.items():
        *groups, name = key.split(".")
        inner = result
        for depth, group in enumerate(groups, 1):
            where = ".".join(["config", *groups[:depth]])
            found = inner.setdefault(group, {})
            if where == "config.qgface.degradation" and isinstance(found, str):
                found = inner[group] = {"policy": found}
            if not isinstance(found, dict):
                raise ConfigError(f"{key} cannot be set: {where} is {found!r} and no group in {source}")
            inner = found
        inner[name] = value
    return result


def shown(changes: Mapping[str, Any]) -> str:
    """Changes as a log line has them, without secrets: "lr = 0.1, qgface.queue = 'momentum'"."""
    return ", ".join(f"{key} = {'(set)' if key in SECRETS else repr(value)}" for key, value in changes.items())


def _copy(value: Any) -> Any:
    """Groups as dictionaries of their own; EasyDict makes others of what is assigned."""
    if isinstance(value, Mapping):
        return {key: _copy(entry) for key, entry in as_mapping(value, "config").items()}
    return value

"""Checked dataclasses: a mapping becomes settings, or an error that names the key, the value and what is allowed."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from .errors import ConfigError

T = TypeVar("T")


def near_matches(key: str, known: typing.Iterable[str]) -> str:
    """'; did you mean x or y?' for a mistyped key, or the list of known keys when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(known)}"


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str, also_known: tuple[str, ...] = ()) -> T:
    """An instance of the dataclass `cls`; unknown keys raise ConfigError with their near matches."""
    known = [f.name for f in fields(cls)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}.{key} is unknown: {near_matches(str(key), [*known, *also_known])}")
    return cls(**values)


def check_fields(instance: Any, where: str) -> None:
    """Check every field of a dataclass against its annotation and its metadata (low, high, choices).

    An int is taken where a float is meant; a bool is never taken for a number. Raises ConfigError.
    """
    hints = typing.get_type_hints(type(instance))
    for f in fields(instance):
        value = getattr(instance, f.name)
        key = f"{where}.{f.name}"
        if not _fits(value, hints[f.name]):
            raise ConfigError(f"{key} is {value!r} ({type(value).__name__}): it must be {_spell(hints[f.name])}")
        choices, low, high = (f.metadata.get(name) for name in ("choices", "low", "high"))
        if choices and value not in choices:
            raise ConfigError(f"{key} is {value!r}: it must be one of {', '.join(map(repr, choices))}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not ((low is None or value >= low) and (high is None or value <= high)):
                bounds = f"at least {low}" if high is None else f"in [{'-inf' if low is None else low}, {high}]"
                raise ConfigError(f"{key} is {value!r}: it must be {bounds}")


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin in (tuple, list):
        items = typing.get_args(hint)
        if not isinstance(value, (tuple, list)):
            return False
        if len(items) == 2 and items[1] is Ellipsis or origin is list:
            return all(_fits(item, items[0]) for item in value)
        return len(value) == len(items) and all(_fits(v, h) for v, h in zip(value, items, strict=True))
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _spell(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spell(option) for option in typing.get_args(hint))
    if hint is type(None):
        return "None"
    return str(hint) if origin else getattr(hint, "__name__", str(hint))

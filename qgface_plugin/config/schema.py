"""Schema of settings: a mapping becomes a checked dataclass, or an error with key, value and what is allowed."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields
from typing import Any, TypeVar

from ..utils.errors import ConfigError

T = TypeVar("T")
NOWHERE: Mapping[str, Collection[str]] = types.MappingProxyType({})


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    factory: Callable[[], Any] | None = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: tuple = (),
    section: str = "",
    secret: bool = False,
) -> Any:
    """A dataclass field with its meaning, its range [low, high] or (above, high], or its allowed values.

    Args:
        default: its value when nothing is set.
        help: what it means.
        factory: makes the default, where it can only be made when it is asked for.
        low: the smallest value.
        above: a bound that the value exceeds.
        high: the largest value.
        choices: the allowed values.
        section: who reads it, where several objects share a dataclass.
        secret: neither messages nor `repr` show its value.
    """
    metadata = {"help": help, "low": low, "above": above, "high": high, "choices": choices, "section": section}
    metadata["secret"] = secret
    return (
        field(default=default, metadata=metadata, repr=not secret)
        if factory is None
        else field(default_factory=factory, metadata=metadata, repr=not secret)
    )


def near_matches(key: str, known: Iterable[str]) -> str:
    """'did you mean x or y?' for a mistyped key, or the list of known keys when none is near."""
    known = sorted(known)
    spelled = {name.lower(): name for name in known}
    near = [spelled[name] for name in difflib.get_close_matches(key.lower(), spelled, n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(known)}"


def as_mapping(values: Any, where: str) -> dict[str, Any]:
    """A copy of a group of settings; ConfigError for anything but a mapping."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r} ({type(values).__name__}): it must be an EasyDict of settings")
    return dict(values)


def check_known(
    values: Mapping[str, Any], where: str, known: Collection[str], homes: Mapping[str, Collection[str]] = NOWHERE
) -> None:
    """Check that every key of a group of settings is known.

    Args:
        values: the group.
        where: its name, such as "config.qgface".
        known: the keys that it may have.
        homes: other groups and their keys, so that the message can say where a misplaced key belongs.

    Raises:
        ConfigError: A key is unknown; the message says where it belongs, or what was probably meant.
    """
    for key in values:
        if key not in known:
            home = next((group for group, names in homes.items() if key in names), None)
            advice = f"it belongs in {home}" if home else near_matches(str(key), known)
            raise ConfigError(f"{where}.{key} is unknown: {advice}")


def from_mapping(
    cls: type[T],
    values: Mapping[str, Any],
    where: str,
    also_known: Sequence[str] = (),
    homes: Mapping[str, Collection[str]] = NOWHERE,
) -> T:
    """Checked settings from a group of a recipe.

    Args:
        cls: their dataclass.
        values: the group.
        where: its name, such as "config.qgface".
        also_known: keys of the group that were taken out of it before, for near matches.
        homes: as `check_known` has it.

    Raises:
        ConfigError: A key is unknown, or `cls` does not accept a value.
    """
    values = as_mapping(values, where)
    check_known(values, where, [*names_of(cls), *also_known], homes)
    return cls(**values)


def names_of(cls: type) -> list[str]:
    """The keys that a dataclass of settings has."""
    return [f.name for f in fields(cls)]


def check_fields(instance: Any, where: str) -> None:
    """Check every field of a dataclass against its annotation and its metadata (low, above, high, choices).

    An int is taken where a float is meant; a bool is never taken for a number; nan and infinity are no settings.

    Args:
        instance: the settings.
        where: what their group is called in messages.

    Raises:
        ConfigError: A value does not fit; the message names the key, the value and what is allowed.
    """
    hints = typing.get_type_hints(type(instance))
    for f in fields(instance):
        value = getattr(instance, f.name)
        key = f"{where}.{f.name}"
        if not _fits(value, hints[f.name]):
            shown = "(set)" if f.metadata.get("secret") else repr(value)
            raise ConfigError(f"{key} is {shown} ({type(value).__name__}): it must be {_spell(hints[f.name])}")
        choices = f.metadata.get("choices")
        if choices and value not in choices:
            raise ConfigError(f"{key} is {value!r}: it must be one of {', '.join(map(repr, choices))}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low, above, high = (f.metadata.get(name) for name in ("low", "above", "high"))
            if not math.isfinite(value):
                raise ConfigError(f"{key} is {value!r}: it must be a finite number")
            if (low is not None and value < low) or (above is not None and value <= above):
                raise ConfigError(f"{key} is {value!r}: it must be {_bounds(low, above, high)}")
            if high is not None and value > high:
                raise ConfigError(f"{key} is {value!r}: it must be {_bounds(low, above, high)}")


def _bounds(low: float | None, above: float | None, high: float | None) -> str:
    if high is None:
        return f"above {above}" if low is None else f"at least {low}"
    if low is None:
        return f"at most {high}" if above is None else f"in ({above}, {high}]"
    return f"in [{low}, {high}]"


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin in (tuple, list):
        items = typing.get_args(hint)
        if not isinstance(value, (tuple, list)):
            return False
        if origin is list or (len(items) == 2 and items[1] is Ellipsis):
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
    origin, items = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spell(option) for option in items)
    if origin is list or (origin is tuple and len(items) == 2 and items[1] is Ellipsis):
        return f"a list of {_spell(items[0])}"
    if origin is tuple:
        return f"({', '.join(_spell(item) for item in items)})"
    if hint is type(None):
        return "None"
    return str(hint) if origin else getattr(hint, "__name__", str(hint))

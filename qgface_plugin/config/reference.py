"""Reference of the settings: every key of a recipe with its default, what it takes and what it means, as text.

The dataclasses of this room are read: their fields, and the comments that stand alone between them as headings. `qgface
settings` shows it, and docs/configuration.md is written from it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from ..utils.registry import MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS, Registry
from . import unsupported
from .degradation import ADAFACE, OURS, DegradationPolicy
from .method import AUTHORS, QGFaceConfig
from .recipe import HOMES, OPTIONS
from .run import Run

NAMED_PARTS: dict[tuple[str, str], Registry] = {
    ("config.qgface", "quality"): QUALITY_SOURCES,
    ("config.qgface", "margin"): MARGIN_HEADS,
    ("config.qgface", "queue"): QUEUE_KINDS,
}
"""Settings whose value is the name of a part."""
GROUPS: dict[str, type] = {
    "config": Run,
    "config.qgface": QGFaceConfig,
    "config.qgface.degradation": DegradationPolicy,
    **{f"config.qgface.{name}": cls for name, cls in OPTIONS.items()},
}
"""The groups of a recipe in the order in which they are shown."""


@dataclass(frozen=True)
class Key:
    """One setting.

    Args:
        group: where it stands, such as "config.qgface".
        heading: what the keys around it are about; may be empty.
        name: its own.
        default: as Python writes it.
        meaning: its help text, and which trainer leaves it alone.
        preset: its value, as Python writes it, in the other published set: the authors' code or AdaFace; or None.
        field: the dataclass field.

    Example:
        >>> key = find("config.qgface.b")[0]
        >>> key.path, key.default, key.allowed, key.choices
        ('config.qgface.b', '0.2', 'float, 0 to 1', ())
        >>> find("sigma_rule")[0].preset
        '"add"'
    """

    group: str
    heading: str
    name: str
    default: str
    meaning: str
    preset: str | None
    field: Field = field(repr=False)

    @property
    def path(self) -> str:
        """As a recipe writes it: `config.qgface.b`."""
        return f"{self.group}.{self.name}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it takes, as Python writes them; empty where `allowed` says it all."""
        if (parts := NAMED_PARTS.get((self.group, self.name))) is not None:
            return tuple(_written(name) for name in parts if name in parts.own)
        return tuple(map(_written, self.field.metadata["choices"]))

    @property
    def allowed(self) -> str:
        """Its type and range in words, or what it takes beside the `choices`."""
        if (self.group, self.name) in NAMED_PARTS:
            return "or a name of your own"
        return "" if self.field.metadata["choices"] else _type_and_range(self.field)


def every_key() -> list[Key]:
    """All keys, group by group in the order of the dataclasses."""
    return [key for group, cls in GROUPS.items() for key in _keys(group, cls)]


def find(word: str) -> list[Key]:
    """The keys of that name or path (`config.` and `qgface.` may be left out), or else those that mention the word."""
    keys, wanted = every_key(), word.lower().removeprefix("config.")
    exact = [key for key in keys if wanted in (key.name, key.path.removeprefix("config."))]
    group = [key for key in keys if wanted in (key.group.removeprefix("config."), key.group.rpartition(".")[2])]
    return exact or group or [key for key in keys if wanted in f"{key.path} {key.heading} {key.meaning}".lower()]


def _keys(group: str, cls: type) -> Iterator[Key]:
    presets = {"config.qgface": AUTHORS, "config.qgface.degradation": _of_adaface()}.get(group, {})
    known = {*HOMES["config"]} - {"qgface"} if cls is Run else {f.name for f in fields(cls)}
    for heading, f in _under_headings(cls):
        if f.name in known:
            preset = _written(presets[f.name]) if f.name in presets else None
            yield Key(group, heading, f.name, _default(f), _meaning(group, f), preset, f)


def _of_adaface() -> dict[str, Any]:
    names = [f.name for f in fields(DegradationPolicy)]
    return {name: getattr(ADAFACE, name) for name in names if getattr(ADAFACE, name) != getattr(OURS, name)}


def _under_headings(cls: type) -> Iterator[tuple[str, Field]]:
    """Each field with the comment of the class body above it that stands alone on its line, such as `# data`."""
    by_name = {f.name: f for f in fields(cls)}
    heading = ""
    for line in inspect.getsource(cls).splitlines():
        if comment := re.match(r"    # (.+)$", line):
            heading = comment[1][0].upper() + comment[1][1:]
        elif (name := re.match(r"    (\w+): .*= setting\(", line)) and name[1] in by_name:
            yield heading, by_name[name[1]]


def _type_and_range(f: Field) -> str:
    low, above, high = (f.metadata[bound] for bound in ("low", "above", "high"))
    words = str(f.type).replace(" | None", " or None").replace("|", "or")
    words = re.sub(r"tuple\[(\w+), \.\.\.\]", r"list of \1", words)
    words = re.sub(r"tuple\[(\w+)((?:, \1)+)\]", lambda m: f"{1 + m[2].count(',')} {m[1]}s", words)
    if low is not None and high is not None:
        return f"{words}, {low:g} to {high:g}"
    bounds = (("from", low), ("above", above), ("at most", high))
    return ", ".join([words, *(f"{word} {bound:g}" for word, bound in bounds if bound is not None)])


def _default(f: Field) -> str:
    if f.name == "output":
        return "work_dirs/<recipe>"
    return "" if f.default is MISSING else _written(f.default)


def _meaning(group: str, f: Field) -> str:
    text = f.metadata["help"]
    if group == "config" and (why := unsupported.in_ours_place(f.name)):
        return f"{text}. No effect here: {why}"
    if group == "config.qgface.train" and unsupported.only_built_in(f.name):
        return f"{text}. No effect in a checkout's loop"
    return text


def _written(value: Any) -> str:
    """A value as a recipe writes it, with double quotes and at most four digits."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float):
        return f"{value:.4g}" if value % 1 else str(value)
    return repr(value).replace("'", '"')

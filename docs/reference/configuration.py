"""Page of all settings, from the dataclasses of `qgface_plugin/config/`: their fields, help texts and ranges."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from qgface_plugin.config import unsupported
from qgface_plugin.config.degradation import ADAFACE, OURS, DegradationPolicy
from qgface_plugin.config.method import AUTHORS, QGFaceConfig
from qgface_plugin.config.options import DataOptions, FinetuneOptions, TrainOptions, VerifyOptions
from qgface_plugin.config.recipe import HOMES
from qgface_plugin.config.run import Run
from qgface_plugin.utils.registry import MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS

REGISTRIES = {"quality": QUALITY_SOURCES, "margin": MARGIN_HEADS, "queue": QUEUE_KINDS}

KEYS_OF_CONFIG = {*HOMES["config"]} - {"qgface"}

HEAD = """# Configuration: every key of a recipe

<!-- Written by `python -m docs.reference` from qgface_plugin/config/. Change the help texts there. -->

A recipe is a Python file with an EasyDict `config`. A key that it does not set has the default below; arcface_torch's
keys have its names and defaults. An unknown key, a wrong type or a value out of range stops the run before it starts,
with a message that names the key and what is allowed. Where a pair or a list is asked for, `(...)` and `[...]` are the
same.

```python
from qgface_plugin import load_config

config = load_config(__file__, "qgface_r34.py")  # start from another recipe
config.batch_size = 64
config.qgface.b_quantile = 0.3
config.qgface.data.source = "folder"
```

[The guide](guide.md) helps to choose, [the method](method.md) has the equations, and a run writes what it resolved to
`recipe.json`.
"""

SECTIONS: tuple[tuple[str, type, str], ...] = (
    ("config", Run, "The run: encoder, data, optimisation, output. `config` itself."),
    (
        "config.qgface",
        QGFaceConfig,
        "The method. `authors = True` beside these selects what the authors' published code does where it differs from "
        "the paper: the column `authors`.",
    ),
    (
        "config.qgface.degradation",
        DegradationPolicy,
        'How the degraded view is made: `"ours"` (the paper\'s setting E, the default), `"adaface"` (its setting A), '
        "`None` for single views without pairs, or a group that changes one of the two, such as "
        '`edict(policy="ours", jpeg_quality=60)`.',
    ),
    ("config.qgface.data", DataOptions, "How the training faces are read."),
    ("config.qgface.train", TrainOptions, "What the built-in loop has beyond arcface_torch's."),
    (
        "config.qgface.finetune",
        FinetuneOptions,
        "How a run starts from the encoder that `config.init_from` names, and what of it moves; see "
        "[fine-tuning](finetuning.md).",
    ),
    (
        "config.qgface.verify",
        VerifyOptions,
        "What the built-in loop verifies beside `config.val_targets`, and which weights it keeps.",
    ),
)


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for group, cls, about in SECTIONS:
        parts.append(f"## {group}\n\n{about}\n")
        others = {"config.qgface": ("authors", AUTHORS), "config.qgface.degradation": ("adaface", _adaface())}
        also = others.get(group)
        for heading, keys in _by_heading(cls):
            shown = [f for f in keys if cls is not Run or f.name in KEYS_OF_CONFIG]
            if shown:
                parts.append((f"### {heading}\n\n" if heading else "") + _table(shown, also) + "\n")
    return "\n".join(parts)


def _adaface() -> dict[str, Any]:
    names = [f.name for f in fields(DegradationPolicy)]
    return {name: getattr(ADAFACE, name) for name in names if getattr(ADAFACE, name) != getattr(OURS, name)}


def _by_heading(cls: type) -> Iterator[tuple[str, list[Field]]]:
    """The fields below each comment of the class body that stands alone on its line, such as `# data`."""
    by_name = {f.name: f for f in fields(cls)}
    heading, found = "", []
    for line in inspect.getsource(cls).splitlines():
        if comment := re.match(r"    # (.+)$", line):
            yield heading, found
            heading, found = comment[1][0].upper() + comment[1][1:], []
        elif (name := re.match(r"    (\w+): .*= setting\(", line)) and name[1] in by_name:
            found.append(by_name[name[1]])
    yield heading, found


def _table(keys: list[Field], also: tuple[str, dict[str, Any]] | None) -> str:
    """One row for each key; `also` adds a column with another set of values, where one of the keys has one."""
    title, values = also or ("", {})
    values = {f.name: values[f.name] for f in keys if f.name in values}
    lines = [f"| key | default | {title + ' | ' if values else ''}allowed | what it sets |"]
    lines.append("| --- | --- | " + ("--- | " if values else "") + "--- | --- |")
    for f in keys:
        other = (_code(values[f.name]) if f.name in values else "") + " | " if values else ""
        lines.append(f"| `{f.name}` | {_default(f)} | {other}{allowed(f)} | {_meaning(f)} |")
    return "\n".join(lines) + "\n"


def allowed(f: Field) -> str:
    """What a key takes, in words: its choices, or its type and range."""
    if registry := REGISTRIES.get(f.name):
        return ", ".join(_code(name) for name in registry if name in registry.own) + ", or a name of your own"
    if choices := f.metadata["choices"]:
        return ", ".join(_code(choice) for choice in choices)
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
        return "`work_dirs/<recipe>`"
    return _code(f.default) if f.default is not MISSING else ""


def _meaning(f: Field) -> str:
    """The help text, and which trainer leaves the key alone."""
    text = f.metadata["help"].replace("|", "\\|").replace("<its", "\\<its")
    if why := unsupported._OURS.get(f.name):
        return f"{text}. No effect here: {why}"
    if f.name in unsupported._BUILT_IN_ONLY:
        return f"{text}. No effect in a checkout's loop"
    return text


def _code(value: Any) -> str:
    text = (
        repr(value).replace("'", '"') if not isinstance(value, float) else f"{value:.4g}" if value % 1 else str(value)
    )
    if isinstance(value, tuple) and all(isinstance(one, float) for one in value):
        text = f"({', '.join(f'{one:.4g}' for one in value)})" if value else "()"
    return f"`{text}`"

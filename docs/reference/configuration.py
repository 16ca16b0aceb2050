"""Page of all settings, from the dataclasses of `qgface_plugin/config/`: their fields, help texts and ranges."""

from __future__ import annotations

from itertools import groupby

from qgface_plugin.config.reference import GROUPS, Key, every_key

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

`qgface settings WORD` shows the same on the command line, and `qgface train RECIPE --set KEY=VALUE` changes a key for
one run. [The guide](guide.md) helps to choose, [the method](method.md) has the equations, and a run writes what it
resolved to `recipe.json`.
"""

ABOUT = {
    "config": "The run: encoder, data, optimisation, output. `config` itself.",
    "config.qgface": "The method. `authors = True` beside these selects what the authors' published code does where it "
    "differs from the paper: the column `authors`.",
    "config.qgface.degradation": 'How the degraded view is made: `"ours"` (the paper\'s setting E, the default), '
    '`"adaface"` (its setting A), `None` for single views without pairs, or a group that changes one of the two, such '
    'as `edict(policy="ours", jpeg_quality=60)`.',
    "config.qgface.data": "How the training faces are read.",
    "config.qgface.train": "What the built-in loop has beyond arcface_torch's.",
    "config.qgface.finetune": "How a run starts from the encoder that `config.init_from` names, and what of it moves; "
    "see [fine-tuning](finetuning.md).",
    "config.qgface.verify": "What the built-in loop verifies beside `config.val_targets`, and which weights it keeps.",
}
PRESETS = {"config.qgface": "authors", "config.qgface.degradation": "adaface"}
"""What the other published set of values is called, in the groups that have one."""


def page() -> str:
    """The page, as Markdown; ValueError where a group is not described."""
    if ABOUT.keys() != GROUPS.keys():
        raise ValueError(
            f"docs/reference/configuration.py: ABOUT and the groups differ in {ABOUT.keys() ^ GROUPS.keys()}"
        )
    parts = [HEAD]
    for group, keys in groupby(every_key(), lambda key: key.group):
        parts.append(f"## {group}\n\n{ABOUT[group]}\n")
        for heading, rows in groupby(keys, lambda key: key.heading):
            parts.append((f"### {heading}\n\n" if heading else "") + _table(list(rows), PRESETS.get(group)))
    return "\n".join(parts)


def _table(keys: list[Key], preset: str | None) -> str:
    """One row for each key; a column with the other set of values where one of the keys has one."""
    shown = preset is not None and any(key.preset is not None for key in keys)
    head = ["key", "default", *([preset] if shown else []), "allowed", "what it sets"]
    lines = [f"| {' | '.join(map(str, head))} |", "| " + " | ".join("---" for _ in head) + " |"]
    for key in keys:
        allowed = ", ".join(text for text in (*map(_code, key.choices), key.allowed) if text)
        cells = [_code(key.name), _code(key.default), *([_code(key.preset or "")] if shown else []), allowed]
        lines.append(f"| {' | '.join([*cells, _cell(key.meaning)])} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    """Text for a cell, where a bar ends it and `<` before a letter begins a tag."""
    return text.replace("|", "\\|").replace("<its", "\\<its")

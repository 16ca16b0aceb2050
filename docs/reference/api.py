"""Page of the public names, from the docstrings of what `qgface_plugin.__all__` lists."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from typing import Any

import qgface_plugin

from .docstring import as_markdown

HEAD = """# Public names

<!-- Written by `python -m docs.reference` from the docstrings of qgface_plugin/. Change them there. -->

What `from qgface_plugin import ...` gives. These names keep working from version to version;
[CONTRIBUTING](../CONTRIBUTING.md) says what else does. For embedding and evaluating in Python see
[evaluation](evaluation.md), for examples of parts of your own [that page](own_parts.md).

Letters in shapes: B images a rank and step, N rows of the global batch, R rows that a gate lets through, d numbers of
an embedding, n classes, Q entries of the queue. `()` is a single number.
"""

GROUPS: dict[str, list[str]] = {
    "The loss": ["QGPartialFC", "QGFaceMargin", "QGFaceConfig"],
    "Recipes": ["load_config"],
    "Pairs for a loop of your own": ["pair_loader", "PairBatch"],
    "Margins of your own": ["margin_head", "MarginHead"],
    "Sources of quality of your own": ["quality_source", "QualitySource"],
    "Queues of your own": ["queue_kind", "QueueKind", "FeatureQueue", "past_entries"],
    "Degradation steps of your own": ["degradation_step"],
    "Networks of your own": ["network"],
}


def page() -> str:
    """The page, as Markdown; ValueError where a public name stands in no group, or a group names what is not public."""
    grouped = [name for names in GROUPS.values() for name in names]
    public = [name for name in qgface_plugin.__all__ if name != "__version__"]
    if sorted(grouped) != sorted(public):
        raise ValueError(f"docs/reference/api.py: GROUPS and __all__ differ in {sorted({*grouped} ^ {*public})}")
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts.extend(_entry(name, getattr(qgface_plugin, name)) for name in names)
    return "\n".join(parts)


def _entry(name: str, thing: Any) -> str:
    module = thing.__module__.replace(".", "/")
    signature = "" if is_dataclass(thing) and len(inspect.signature(thing).parameters) > 12 else _signature(name, thing)
    lines = [f"### {name}\n", f"In `{module}.py`.\n"]
    if signature:
        lines.append(f"```text\n{signature}\n```\n")
    elif is_dataclass(thing):
        lines.append("Its fields are the keys of [`config.qgface`](configuration.md#configqgface).\n")
    lines.append(as_markdown(inspect.getdoc(thing) or ""))
    if inspect.isclass(thing):
        lines += [_method(name, key, member) for key, member in vars(thing).items() if not key.startswith("_")]
    return "\n".join(line for line in lines if line)


def _method(owner: str, name: str, member: Any) -> str:
    """A public method or property with a docstring; nothing for other members."""
    if isinstance(member, property):
        doc, head = inspect.getdoc(member), f"`{owner}.{name}`"
    elif isinstance(member, classmethod) or inspect.isfunction(member):
        function = member.__func__ if isinstance(member, classmethod) else member
        doc, head = inspect.getdoc(function), f"`{_signature(f'{owner}.{name}', function, bound=True)}`"
    else:
        return ""
    return f"**{head}**\n\n{as_markdown(doc)}" if doc else ""


def _signature(name: str, thing: Any, bound: bool = False) -> str:
    """`name(...)` as a caller writes it; over several lines where one is too long."""
    signature = inspect.signature(thing)
    parameters = list(signature.parameters.values())[1 if bound else 0 :]
    text = str(signature.replace(parameters=parameters)).replace("'", "")
    text = re.sub(r"<function <lambda> at .*?>|<factory>", "...", text).removesuffix(" -> None")
    if bound or len(name + text) <= 100:
        return name + text
    inside, _, returned = text[1:].rpartition(")")
    names = "\n".join(f"    {one}," for one in _split(inside))
    return f"{name}(\n{names}\n){returned}"


def _split(arguments: str) -> list[str]:
    """Arguments at the commas that stand within no bracket."""
    found, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found]

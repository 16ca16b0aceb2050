"""Docstrings in Google style, as Markdown."""

from __future__ import annotations

import inspect
import re

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples")
ITEM = re.compile(r"^(\*{0,2}\w[\w.]*(?:, \w+)*): (.*)$")


def as_markdown(doc: str) -> str:
    """A docstring's text, its lists of arguments as lists and its examples as code.

    Args:
        doc: as it stands in the source, indented or not.

    Returns:
        Markdown without headings; ends on a line end.
    """
    parts: list[str] = []
    for title, lines in _sections(inspect.cleandoc(doc).splitlines()):
        text = inspect.cleandoc("\n".join(lines)).strip()
        if not text:
            continue
        if title in ("Example", "Examples"):
            parts.append(f"```pycon\n{text}\n```")
        elif title:
            parts.append(f"{title}:\n\n{_items(text)}")
        else:
            parts.append(_escaped(text))
    return "\n\n".join(parts) + "\n"


def _sections(lines: list[str]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            found.append((line.rstrip(":"), []))
        else:
            found[-1][1].append(line)
    return found


def _items(text: str) -> str:
    """`name: what it is`, one after another and each perhaps over several lines, as a list; else the text itself."""
    items: list[str] = []
    for line in text.splitlines():
        if not line.startswith(" ") and (found := ITEM.match(line)):
            items.append(f"- `{found[1]}`: {found[2]}")
        elif items:
            items[-1] += " " + line.strip()
        else:
            return _escaped(text)
    return "\n".join(_escaped(item) for item in items)


def _escaped(text: str) -> str:
    """What Markdown would take for emphasis or a tag, outside of code."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(span if span.startswith("`") else re.sub(r"([*_<\[\]|])", r"\\\1", span) for span in spans)

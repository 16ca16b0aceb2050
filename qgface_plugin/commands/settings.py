"""Settings of a recipe: every key with its default, what it takes and what it means.

qgface settings                # all of them
qgface settings b_quantile     # one key
qgface settings degradation    # a group, or all that mention a word
"""

from __future__ import annotations

import argparse
import textwrap
from difflib import get_close_matches
from pathlib import Path

from ..config.reference import Key, every_key, find
from ..utils.command_line import PROGRAM, command_parser, guarded
from ..utils.errors import ConfigError
from ..utils.files import write_json
from ..utils.outputs import check_output, json_with

FIELDS = ("key", "default", "choices", "allowed", "meaning")


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: shown; 1: the JSON file cannot be written; 2: no key has that word."""
    parser = command_parser("settings", __doc__, front)
    parser.add_argument(
        "word", metavar="WORD", nargs="?", help="a key, a group, or a word of the help texts [all keys]"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write them for programs too")
    given = parser.parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_output(given.json, json_with(("settings",), "reference"))
    keys = every_key() if given.word is None else find(given.word)
    if not keys:
        near = get_close_matches(given.word, [key.name for key in every_key()], n=3)
        advice = f"did you mean {' or '.join(near)}?" if near else f"`{PROGRAM} settings` lists all"
        raise ConfigError(f"no setting is called {given.word!r}, and none mentions it: {advice}")
    print("\n".join(_shown(keys)))
    if given.json:
        write_json(given.json, {"settings": [_as_json(key) for key in keys]})
    return 0


def _shown(keys: list[Key]) -> list[str]:
    """Two lines a key, below their groups."""
    lines: list[str] = []
    group = None
    for key in keys:
        if key.group != group:
            lines += ([""] if lines else []) + [f"{key.group}:"]
            group = key.group
        takes = ", ".join(text for text in (*key.choices, key.allowed) if text)
        lines.append(f"  {key.name} = {key.default}    [{takes}]")
        lines += textwrap.wrap(key.meaning, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def _as_json(key: Key) -> dict[str, object]:
    return dict(zip(FIELDS, (key.path, key.default, list(key.choices), key.allowed, key.meaning), strict=True))

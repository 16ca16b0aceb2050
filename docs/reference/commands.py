"""Page of all commands, from their parsers: what `qgface COMMAND --help` says."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from unittest.mock import patch

from qgface_plugin.__main__ import COMMANDS, MODULES

HEAD = """# Commands

<!-- Written by `python -m docs.reference` from qgface_plugin/commands/. Change the help texts there. -->

`qgface COMMAND ...`; `python -m qgface_plugin COMMAND ...` is the same, and so is what torchrun starts:
`torchrun --nproc_per_node=4 -m qgface_plugin train RECIPE`. In the project's folder the scripts of `tools/` and
`train_v2.py` are fronts of the same functions. `qgface COMMAND --help` says what stands here; `qgface` alone lists the
commands.

Exit status, where a command's entry says nothing else: 0 done, 1 could not go on, 2 the input does not fit, 130
interrupted. Whatever takes `--json FILE` writes there what it prints, as numbers for programs.

"""


class _Captured(Exception):
    """The parser of a command, at the moment when it would parse."""


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD, _overview()]
    for title, group in COMMANDS.items():
        parts.append(f"## {title[0].upper() + title[1:]}\n")
        for name in group:
            module = import_module(f"qgface_plugin.commands.{MODULES[name]}")
            parts.append(_entry(name, module, parser_of(module)))
    return "\n".join(parts)


def parser_of(module: ModuleType) -> argparse.ArgumentParser:
    """The parser that a command's `main` makes, with its sub-commands complete."""

    def caught(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Captured(parser)

    first: list[str] = []
    for _ in range(
        2
    ):  # the second time with the names of the sub-commands, for those that add their options when named
        with patch.object(argparse.ArgumentParser, "parse_args", caught):
            try:
                module.main(first)
            except _Captured as found:
                parser: argparse.ArgumentParser = found.args[0]
        first = list(_subcommands(parser))
    return parser


def _overview() -> str:
    lines = ["| command | what it does |", "| --- | --- |"]
    for group in COMMANDS.values():
        lines += [f"| [`{name}`](#qgface-{name}) | {_cell(about)} |" for name, (_, about) in group.items()]
    return "\n".join(lines) + "\n"


def _entry(name: str, module: ModuleType, parser: argparse.ArgumentParser) -> str:
    about, examples = _described(parser.description or "")
    parts = [f"### qgface {name}\n", about + "\n"]
    if examples:
        parts.append(f"```sh\n{examples}\n```\n")
    if (status := inspect.getdoc(module.main) or "").startswith("Exit status"):
        parts.append(" ".join(status.split("\n\n")[0].split()) + "\n")
    parts.append(_table(parser))
    for sub, one in _subcommands(parser).items():
        about, examples = _described(one.description or "")
        parts.append(f"**`qgface {name} {sub}`**: {about}\n")
        if examples:
            parts.append(f"```sh\n{examples}\n```\n")
        parts.append(_table(one))
    return "\n".join(part for part in parts if part)


def _described(text: str) -> tuple[str, str]:
    """A description's words, and its lines of commands."""
    examples: list[str] = []
    words: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        goes_on = bool(examples) and examples[-1].endswith("\\")
        command = goes_on or re.match(r"\s*(qgface|torchrun|python|make|[A-Z_]+=\S+) ", line)
        (examples if command else words).append(line.removeprefix("    ") if not goes_on else line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(words)).strip(), "\n".join(examples).strip()


def _table(parser: argparse.ArgumentParser) -> str:
    rows = [_row(parser, action) for action in _arguments(parser)]
    return "\n".join(["| argument | what it is |", "| --- | --- |", *rows]) + "\n" if rows else ""


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What a user may write, required things first, then in the parser's order."""
    shown = [
        action
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        and not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))
    ]
    yield from sorted(shown, key=lambda action: bool(action.option_strings) + (not action.required))


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    values = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    name = values if isinstance(values, str) else " ".join(values)
    several = {"+": f"{name} ...", "*": f"[{name} ...]", "?": f"[{name}]", 0: ""}
    value = several.get(action.nargs, name) if action.nargs is not None else name  # type: ignore[call-overload]
    written = ", ".join(f"`{option}{' ' if value else ''}{value}`" for option in action.option_strings) or f"`{value}`"
    told = parser._get_formatter()._expand_help(action) if action.help else ""
    needed = "; needed" if action.required and action.option_strings else ""
    return f"| {written.replace('|', chr(92) + '|')} | {_cell(told)}{needed} |"


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _cell(text: str) -> str:
    """Text for a cell: outside of code, nothing in it is markup."""
    spans = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        (span if span.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", span)).replace("|", "\\|") for span in spans
    )

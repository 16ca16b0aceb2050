"""Every command that a page shows: the command is there and takes those arguments; and docs/commands.md has all."""

from __future__ import annotations

import argparse
import functools
import re
import shlex
from importlib import import_module

import pytest
from pages import PAGES, blocks, spans
from paths import ROOT

from docs.reference import commands
from docs.reference.commands import parser_of
from qgface_plugin.__main__ import MODULES

CALL = re.compile(r"(?:\bqgface|-m qgface_plugin) ([a-z][a-z-]*)\b(.*)")
NO_COMMAND = {"COMMAND", "NAME"}


@functools.cache
def parser(name: str) -> argparse.ArgumentParser:
    return parser_of(import_module(f"qgface_plugin.commands.{MODULES[name]}"))


def lines(text: str) -> list[str]:
    """Commands with their continuation lines, without comments."""
    whole = re.sub(r"\\\n\s*", " ", text)
    return [line.split(" #")[0].strip() for line in whole.splitlines() if not line.startswith("#")]


SHOWN = [
    pytest.param(found[1], found[2], id=f"{page.name}: {found[0][:60]}")
    for page in PAGES
    for block in blocks(page, "sh")
    for line in lines(block)
    if (found := CALL.search(line))
]
NAMED = [(page.name, found) for page in PAGES for span in spans(page) if (found := CALL.match(span))]


@pytest.mark.parametrize(("name", "arguments"), SHOWN)
def test_a_command_that_is_shown_is_taken(name, arguments, capsys):
    given = re.sub(
        r" {3,}.*| \.\.\.$| [>|] .*", "", arguments
    )  # words beside an example, "and so on", the shell's part
    if "--help" in given or not (words := shlex.split(given)):
        assert name in MODULES
        return
    try:
        argparse.ArgumentParser.parse_args(parser(name), words)
    except SystemExit:
        said = capsys.readouterr().err
        assert arguments.endswith("...") and "required" in said, said


def test_commands_in_the_text_have_such_options():
    wrong = []
    for page, found in NAMED:
        known = (
            {one for action in parser(found[1])._actions for one in action.option_strings}
            if found[1] in MODULES
            else None
        )
        for sub in commands._subcommands(parser(found[1])).values() if known is not None else ():
            known |= {one for action in sub._actions for one in action.option_strings}
        options = re.findall(r"(?<= )--?[a-z][\w-]*", found[2])
        if known is None or not set(options) <= known | {"--help"}:
            wrong.append((page, found[0]))
    assert len(NAMED) > 15 and wrong == []


@pytest.mark.parametrize("name", MODULES)
def test_the_page_has_every_option(name):
    entry = (ROOT / "docs" / "commands.md").read_text("utf-8").split(f"### qgface {name}\n", 1)[1].split("\n##")[0]
    shown = [action for action in parser(name)._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    for action in shown:
        for option in action.option_strings:
            assert f"`{option}" in entry
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            assert f"{action.metavar or action.dest}" in entry
    assert all(f"**`qgface {name} {sub}`**" in entry for sub in commands._subcommands(parser(name)))


def test_there_are_commands():
    assert len(SHOWN) > 50

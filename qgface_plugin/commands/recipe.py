"""Recipes of the package: what there is, and a copy of one to work on.

qgface recipe
qgface recipe qgface_r34 > my_recipe.py
qgface recipe paper/table1_a -o my_recipe.py

`qgface train NAME` trains one as it is. A copy loads wherever it is kept; one that starts from another recipe still
does so, from the file of that name beside it, or else from the package's.
"""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from pathlib import Path

from ..config.packaged import packaged_names, packaged_recipe, working_copy
from ..utils.command_line import PROGRAM, command_parser, guarded
from ..utils.errors import ConfigError
from ..utils.files import write_text


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: printed or written; 1: it cannot be written; 2: there is no recipe of that name, or a file is."""
    parser = command_parser("recipe", __doc__, front)
    parser.add_argument("name", metavar="NAME", nargs="?", help="of a recipe; without it all are listed")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write a new file instead of printing")
    given = parser.parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    if given.name is None:
        names = packaged_names()
        width = max(map(len, names))
        print("\n".join(f"{name:<{width}}  {about}" for name, about in names.items()))
        return 0
    path = packaged_recipe(given.name) or packaged_recipe(given.name.removeprefix("recipes/"))
    if path is None:
        near = get_close_matches(given.name, packaged_names(), n=3)
        advice = f"did you mean {' or '.join(near)}?" if near else f"`{PROGRAM} recipe` lists them"
        raise ConfigError(f"there is no recipe {given.name} in the package: {advice}")
    if given.output is None:
        print(working_copy(path), end="")
        return 0
    if given.output.exists():
        raise ConfigError(f"{given.output} is there already: name another file")
    write_text(given.output, working_copy(path, str(given.output)))
    print(f"saved: {given.output}")
    return 0

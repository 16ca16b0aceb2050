"""CONTRIBUTING.md and CHANGELOG.md: files, commands and import paths that they name are there, or gone as they say."""

from __future__ import annotations

import re
from importlib import import_module, util

import pytest
from paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", PAGE)
MOVED = re.findall(
    r"^\| (`.+) \| (`.+) \| (gone|keeps working)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
)


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def is_there(what: str) -> bool:
    """Whether `from M import N` works, and whether `import M`, a module or a module's attribute names something."""
    match = re.fullmatch(r"from (\S+) import (\w+)|(?:import )?(\S+)", what)
    module, name, path = match.groups()
    if path is not None:
        if is_module(path):
            return True
        module, _, name = path.rpartition(".")
    return is_module(module) and hasattr(import_module(module), name)


def is_module(path: str) -> bool:
    """Not imported: `autoload` does its work at import. A folder that only holds caches is no module."""
    try:
        spec = util.find_spec(path)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None


def test_the_files_that_are_named_exist():
    named = {span for span in SPANS if re.fullmatch(r"[\w./]+/([\w.]+\.\w+|)", span)} - {
        "train/train.rec",
        "build/site/index.html",
    }
    missing = [name for name in named if not any((top / name).exists() for top in (ROOT, ROOT / "qgface_plugin"))]
    assert len(named) > 30 and sorted(missing) == []


def test_the_commands_of_make_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [*SPANS, *"\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()]
    named = {found[1] for line in lines if (found := re.match(r"make (?:-B )?([a-z-]+)", line))}
    assert {"install", "test", "lint", "coverage"} <= named and named <= targets


def test_the_table_of_what_has_moved_is_read():
    assert len(MOVED) > 15 and {fate for _, _, fate in MOVED} == {"gone", "keeps working"}


@pytest.mark.parametrize(("former", "now", "fate"), MOVED, ids=[" ".join(spans(row[0])) for row in MOVED])
def test_an_import_that_has_moved(former, now, fate):
    assert [what for what in spans(now) if not is_there(what)] == []
    assert [is_there(what) for what in spans(former)] == [fate == "keeps working"] * len(spans(former))

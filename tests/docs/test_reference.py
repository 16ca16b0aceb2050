"""docs/reference: the pages that it writes are those in docs/, complete, and readable."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from paths import ROOT

import qgface_plugin
from docs.reference import api, configuration
from docs.reference.__main__ import DOCS, PAGES, main
from docs.reference.docstring import as_markdown
from qgface_plugin.config.degradation import DegradationPolicy
from qgface_plugin.config.recipe import HOMES


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name):
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run `python -m docs.reference`"


def test_every_key_of_a_recipe_is_there_with_its_help():
    page = configuration.page()
    sections = dict(re.findall(r"^## (config\S*)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    for group, keys in HOMES.items():
        rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", sections[group], re.MULTILINE))
        assert rows.keys() == {*keys} - {"authors", "qgface", "degradation", "data", "train", "finetune", "verify"}, (
            group
        )
        assert [key for key, meaning in rows.items() if not meaning.strip()] == [], f"{group}: no help"
    degradation = {f.name for f in fields(DegradationPolicy)}
    assert set(re.findall(r"^\| `(\w+)` ", sections["config.qgface.degradation"], re.MULTILINE)) == degradation


@pytest.mark.parametrize(
    ("group", "row"),
    [
        ("config", "| `lr` | `0.1` | float, above 0 |"),
        ("config.qgface", '| `sigma_rule` | `"floor"` | `"add"` | `"floor"`, `"add"` |'),
        ("config.qgface", '"softmax"`, or a name of your own |'),
        ("config.qgface.degradation", "| `rescale_p` | `1.0` | `0.2` | float, 0 to 1 |"),
        ("config.qgface.train", "| `max_steps` | `None` | int or None, from 1 |"),
    ],
)
def test_a_row(group, row):
    section = configuration.page().split(f"## {group}\n", 1)[1].split("\n## ")[0]
    assert row in section


def test_every_public_name_has_an_entry():
    entries = set(re.findall(r"^### (\w+)$", api.page(), re.MULTILINE))
    assert entries == {*qgface_plugin.__all__} - {"__version__"}


def test_a_public_name_without_a_place_is_an_error(monkeypatch):
    monkeypatch.setattr(qgface_plugin, "__all__", [*qgface_plugin.__all__, "new_name"])
    with pytest.raises(ValueError, match="new_name"):
        api.page()


def test_a_docstring_becomes_markdown():
    doc = """First line, with a_name.

    Args:
        one: is `x_1`, over
            two lines.
        two, three: are others.

    Returns:
        (N,) numbers.

    Example:
        >>> 1 + 1
        2
    """
    assert as_markdown(doc) == (
        "First line, with a\\_name.\n\nArgs:\n\n- `one`: is `x_1`, over two lines.\n- `two, three`: are others.\n\n"
        "Returns:\n\n(N,) numbers.\n\n```pycon\n>>> 1 + 1\n2\n```\n"
    )


def test_check_names_what_is_out_of_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("docs.reference.__main__.DOCS", tmp_path)
    assert main(["--check"]) == 1 and "configuration.md, commands.md, api.md" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([]) == 0 and main(["--check"]) == 0
    assert (tmp_path / "api.md").read_text("utf-8") == (DOCS / "api.md").read_text("utf-8")

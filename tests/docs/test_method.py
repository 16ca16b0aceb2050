"""docs/method.md: what it names is there, and its table of the authors' choices is the preset."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from checkouts import ROOT

from qgface_plugin.config.method import AUTHORS, QGFaceConfig
from qgface_plugin.loss import functional

PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
EQUATIONS = [row for row in ROWS if len(row) == 4 and row[2].startswith("`") and not row[1].startswith("`")]
CHOICES = {row[1].strip("`"): row[2:] for row in ROWS if len(row) == 4 and row[1].startswith("`")}


@pytest.mark.parametrize("row", EQUATIONS, ids=[row[0] for row in EQUATIONS])
def test_an_equation_is_where_it_says(row):
    sources = [(ROOT / "qgface_plugin" / file).read_text() for file in re.findall(r"`([\w/]+\.py)`", row[3])]
    names = re.findall(r"`(\w+)`", row[2])
    assert names and sources
    assert all(callable(getattr(functional, name)) for name in names)
    assert any(name in source for name in names for source in sources), f"{names} are used in none of {row[3]}"


def test_every_choice_of_the_authors_is_in_the_table():
    defaults = {f.name: f.default for f in fields(QGFaceConfig)}
    assert len(EQUATIONS) == 9 and CHOICES.keys() == AUTHORS.keys()
    for name, (default, authors) in CHOICES.items():
        for text, value in ((default, defaults[name]), (authors, AUTHORS[name])):
            assert text.partition(":")[0] == f"`{value!r}`".replace("'", '"'), name

"""Every page: links lead somewhere, also where the repository itself is shown, and files that are named exist."""

from __future__ import annotations

import ast
import re

import pytest
from pages import IDS, PAGES, anchors, blocks, links, spans
from paths import ROOT

WRITTEN_BY_RUNS = re.compile(r"(work_dirs|results|tensorboard|build|fuzz-findings)/")
FOLDERS = ("qgface_plugin", "recipes", "tools", "tests", "docs", ".ci")
ROOMS = sorted(path.name for path in (ROOT / "qgface_plugin").iterdir() if (path / "__init__.py").is_file())


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    lost = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_that_are_named_exist(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("names what is gone, too; tests/docs/test_contributing.py reads its table")
    named = {span for span in spans(page) if re.match(rf"({'|'.join((*FOLDERS, *ROOMS))})/[\w./-]*$", span)}
    missing = [
        name for name in sorted(named) if not any((top / name).exists() for top in (ROOT, ROOT / "qgface_plugin"))
    ]
    assert [name for name in missing if not WRITTEN_BY_RUNS.match(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_is_python(page):
    for block in blocks(page, "python"):
        ast.parse(block)


def test_the_first_page_leads_to_every_other():
    index = ROOT / "docs" / "index.md"
    told = {target.partition("#")[0] for target in links(index)}
    assert sorted(page.name for page in (ROOT / "docs").glob("*.md") if page != index and page.name not in told) == []


def test_pages_are_found():
    assert {"docs/index.md", "docs/guide.md", "README.md"} <= set(IDS)
    assert len(links(ROOT / "docs" / "index.md")) > 30
    assert "the-share-instead-of-the-threshold" in anchors(ROOT / "docs" / "guide.md")

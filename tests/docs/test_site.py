"""`make docs`: the site is built without a warning, and a page that is opened fetches nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from pages import PAGES
from paths import ROOT

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Fetched(HTMLParser):
    """Addresses that a browser fetches by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for key, value in attrs if key == FETCHED.get(tag)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return out


def test_every_page_is_in_it(site):
    missing = [page for page in PAGES if not (site / page.relative_to(ROOT)).with_suffix(".html").is_file()]
    assert missing == []
    assert "docs/index.html" in (site / "index.html").read_text(encoding="utf-8")


def test_nothing_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        away = [address for address in parser.found if re.match(r"(\w+:)?//", address)]
        lost = [a for a in parser.found if a and a not in away and not a.startswith(("data:", "#"))
                and not (page.parent / a.partition("?")[0].partition("#")[0]).exists()]  # fmt: skip
        assert (page.name, away, lost) == (page.name, [], [])
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:\w+:)?//[^)]*", sheet.read_text(encoding="utf-8")) == []


def test_make_builds_it_as_the_test_does():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "-m sphinx -W --keep-going -q -c docs . build/site" in recipe

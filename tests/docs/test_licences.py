"""LICENSE, CITATION.cff and docs/licences.md: they parse, agree with the package, and name what it is built on."""

from __future__ import annotations

import configparser
import re

import pytest
from paths import ROOT

import qgface_plugin

SHIPPED = ("eval", "foreign", "logging")  # extras that a run imports


@pytest.fixture(scope="module")
def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def citation() -> dict:
    return pytest.importorskip("yaml").safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_licence_is_in_the_metadata(settings):
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) ") and "The QGFace plugin authors" in text
    assert (settings["metadata"]["license"], settings["metadata"]["license_files"]) == ("MIT", "LICENSE")


def test_the_citation_is_of_this_version_and_of_the_paper(citation):
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == qgface_plugin.__version__
    assert citation["license"] == "MIT" and citation["message"] and citation["title"]
    assert [author["name"] for author in citation["authors"]] == ["The QGFace plugin authors"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Song", "Wang"]
    assert paper["title"].endswith("Quality-Guided Joint Training For Mixed-Quality Face Recognition")
    assert paper["identifiers"][0]["value"] == "arXiv:2312.17494"


def test_the_page_names_every_package_that_a_run_imports(settings):
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| .* \| (always|extra `\w+`) \|$", page, re.M))
    wanted = {name: "always" for name in names(settings["options"]["install_requires"])}
    for extra in SHIPPED:
        wanted |= dict.fromkeys(names(settings["options.extras_require"][extra]), f"extra `{extra}`")
    assert rows == wanted


def names(lines: str) -> list[str]:
    return [re.split(r"[<>=; ]", line)[0] for line in lines.split("\n") if line and not line.startswith("#")]

"""docs/architecture.md: its figure is what the script draws, and every file that both name exists."""

from __future__ import annotations

import re
import runpy
from xml.etree import ElementTree

import pytest
from paths import ROOT

SCRIPT = ROOT / "docs" / "figures" / "flow.py"
FIGURE = SCRIPT.with_suffix(".svg")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FLOW = runpy.run_path(str(SCRIPT))
TEXT = "{http://www.w3.org/2000/svg}text"


def named_by_the_page() -> set[str]:
    """Paths in code spans, placeholders and what runs write left out."""
    spans = {span for span in re.findall(r"`([^`\n]+)`", PAGE) if re.fullmatch(r"[\w./]+(\.py|/)", span)}
    return spans - {"work_dirs/", "results/", "tensorboard/"}


def named_by_the_figure() -> set[str]:
    lines = [e.text for e in ElementTree.parse(FIGURE).iter(TEXT) if e.get("class") == "file"]
    return {path for line in lines for path in FLOW["paths"](line)} - {"model.pt"}


def test_the_figure_is_what_its_script_draws():
    assert FIGURE.read_text(encoding="utf-8") == FLOW["draw"]()


def test_text_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="'a line that is too long' may be"):
        FLOW["Box"](0, 0, 60, "a line that is too long").svg()


def test_a_name_after_a_comma_is_in_the_folder_before():
    names = FLOW["paths"]("loss/quality.py, margin.py, data/images.py")
    assert names == ["loss/quality.py", "loss/margin.py", "data/images.py"]


@pytest.mark.parametrize("named", [named_by_the_page, named_by_the_figure])
def test_what_is_named_exists(named):
    missing = [name for name in named() if not any((top / name).exists() for top in (ROOT / "qgface_plugin", ROOT))]
    assert len(named()) > 15 and sorted(missing) == []

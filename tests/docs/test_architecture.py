"""docs/architecture.md: its figure is what the script draws."""

from __future__ import annotations

import runpy

import pytest
from paths import ROOT

SCRIPT = ROOT / "docs" / "figures" / "flow.py"
FIGURE = SCRIPT.with_suffix(".svg")
FLOW = runpy.run_path(str(SCRIPT))


def test_the_figure_is_what_its_script_draws():
    assert FIGURE.read_text(encoding="utf-8") == FLOW["draw"]()


def test_text_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="'a line that is too long' may be"):
        FLOW["Box"](0, 0, 60, "a line that is too long").svg()


def test_a_name_after_a_comma_is_in_the_folder_before():
    names = FLOW["paths"]("loss/quality.py, margin.py, data/images.py")
    assert names == ["loss/quality.py", "loss/margin.py", "data/images.py"]

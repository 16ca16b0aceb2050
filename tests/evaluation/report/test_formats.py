"""The table's four forms."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from qgface_plugin.evaluation.report.formats import FORMATS, as_csv, as_json, as_latex, as_markdown
from qgface_plugin.evaluation.report.table import Cell, Row, Table


@pytest.fixture
def table() -> Table:
    return Table(
        ("d1", "HQ Avg."),
        [
            Row("plain_a|b", (Path("a"),), (Cell(0.5, None, 1), None)),
            Row("QGFace 50%", (Path("b"), Path("c")), (Cell(0.912345, 0.0123, 2), Cell(0.25, 0.5, 2))),
            Row("same", (Path("d"),), (Cell(0.91234999, None, 1), None)),
        ],
        ["d1: 130 in the protocol, 3 here"],
    )


def test_markdown(table):
    assert as_markdown(table) == (
        "| Run | d1 | HQ Avg. |\n"
        "| --- | ---: | ---: |\n"
        "| plain_a\\|b | 50.00 | - |\n"
        "| QGFace 50% | **91.23 ± 1.23** | 25.00 ± 50.00 |\n"
        "| same | **91.23** | - |\n"
        "\n"
        "- d1: 130 in the protocol, 3 here\n"
    )


def test_latex(table):
    assert as_latex(table) == (
        "\\begin{tabular}{lcc}\n\\toprule\nRun & d1 & HQ Avg. \\\\\n\\midrule\n"
        "plain\\_a|b & $50.00$ & -- \\\\\n"
        "QGFace 50\\% & $\\mathbf{91.23 \\pm 1.23}$ & $25.00 \\pm 50.00$ \\\\\n"
        "same & $\\mathbf{91.23}$ & -- \\\\\n"
        "\\bottomrule\n\\end{tabular}\n% d1: 130 in the protocol, 3 here\n"
    )


def test_csv(table):
    rows = list(csv.reader(io.StringIO(as_csv(table))))
    assert rows == [
        ["run", "runs", "d1", "d1 std", "HQ Avg.", "HQ Avg. std"],
        ["plain_a|b", "1", "50.0000", "", "", ""],
        ["QGFace 50%", "2", "91.2345", "1.2300", "25.0000", "50.0000"],
        ["same", "1", "91.2350", "", "", ""],
    ]


def test_json_has_fractions(table):
    found = json.loads(as_json(table))
    assert found["columns"] == ["d1", "HQ Avg."] and found["notes"] == table.notes
    assert found["rows"][1] == {
        "name": "QGFace 50%",
        "runs": ["b", "c"],
        "cells": {"d1": {"mean": 0.912345, "std": 0.0123, "runs": 2}, "HQ Avg.": {"mean": 0.25, "std": 0.5, "runs": 2}},
    }
    assert found["rows"][0]["cells"]["HQ Avg."] is None


def test_one_row_is_not_the_best_of_anything(table):
    table.rows, table.notes = table.rows[:1], []
    assert as_markdown(table).endswith("| plain_a\\|b | 50.00 | - |\n") and "mathbf" not in as_latex(table)


def test_best_of_all_zero(table):
    table.rows = [Row(name, (Path(name),), (Cell(0.0, None, 1), None)) for name in "ab"]
    assert as_markdown(table).count("**0.00**") == 2


def test_names_of_the_formats():
    assert list(FORMATS) == ["markdown", "latex", "csv", "json"]

"""qgface report as a user types it."""

from __future__ import annotations

import json

import pytest

from qgface_plugin.commands import report
from qgface_plugin.evaluation.report.results import write_result


@pytest.fixture
def runs(tmp_path):
    for name, rate in (("a", 0.5), ("b", 0.7)):
        write_result(
            "tinyface", data="/d", model=tmp_path / name / "model.pt", settings={},
            results={"rank": {"1": rate}}, warnings=["few distractors"],
        )  # fmt: skip
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def test_markdown_on_the_terminal(runs, capsys):
    assert report.main(runs) == 0
    shown = capsys.readouterr().out
    assert "| a | - | - | - | 50.00 | - | - | - |\n| b | - | - | - | **70.00** |" in shown
    assert f"- tinyface of {', '.join(runs)}: few distractors" in shown


def test_one_row_of_two_runs_in_a_file(runs, tmp_path, capsys):
    out = tmp_path / "table.json"
    assert report.main([f"QGFace={run}" for run in runs] + ["--format", "json", "--output", str(out)]) == 0
    assert capsys.readouterr().out == f"saved: {out}\n"
    cell = json.loads(out.read_text())["rows"][0]["cells"]["TinyFace"]
    assert cell["mean"] == pytest.approx(0.6) and cell["std"] == pytest.approx(0.1414, abs=1e-4)


def test_csv_keeps_its_notes_apart(runs, capsys):
    assert report.main([*runs, "--format", "csv"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].startswith("a,1,") and "note: tinyface of" in shown.err


def test_latex(runs, capsys):
    assert report.main([*runs, "--format", "latex"]) == 0
    assert "$\\mathbf{70.00}$" in capsys.readouterr().out


def test_input_that_does_not_fit(runs, tmp_path, capsys):
    assert report.main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("qgface report: ")
    (tmp_path / "file").touch()
    assert report.main([*runs, "--output", str(tmp_path / "file" / "x.md")]) == 2
    assert "x.md: it cannot be written (" in capsys.readouterr().err

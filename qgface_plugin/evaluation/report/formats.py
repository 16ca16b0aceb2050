"""Formats of a table of results: Markdown, LaTeX, CSV, JSON. Percent in all of them but JSON, which has fractions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict

from ...utils.outputs import json_with, text_with
from .details import QUALITY_HEAD, THRESHOLD_HEAD
from .table import Cell, Table

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def as_markdown(table: Table) -> str:
    """A pipe table, the best number of every column bold, the notes as a list below, and then the details' tables."""
    best = _best(table)
    lines = [["Run", *table.columns], ["---", *("---:" for _ in table.columns)]]
    for number, row in enumerate(table.rows):
        cells = [_shown(cell, " ± ", "-") for cell in row.cells]
        name = row.name.replace("|", r"\|")
        lines.append([name, *(f"**{c}**" if number in best[k] else c for k, c in enumerate(cells))])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    text += "".join(f"\n- {note}" for note in table.notes) + ("\n" if table.notes else "")
    for title, head, rows in details(table):
        text += f"\n{title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])
    return text


def details(table: Table) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, head, rows) of the tables below: thresholds and qualities, where there are any."""
    found = [
        ("Thresholds: a pair is accepted when its cosine is at least that", THRESHOLD_HEAD, table.thresholds),
        ("What each quality is worth (error versus discard)", QUALITY_HEAD, table.qualities),
    ]
    return [
        (title, ["Run", *head], [[row.run.replace("|", r"\|"), *row.cells()] for row in rows])  # type: ignore[attr-defined]
        for title, head, rows in found
        if rows
    ]


def as_latex(table: Table) -> str:
    """A `tabular` (booktabs), the best number of every column bold, and the notes as comments."""
    best = _best(table)
    lines = [r"\begin{tabular}{l" + "c" * len(table.columns) + "}", r"\toprule"]
    lines.append(" & ".join(["Run", *map(_escaped, table.columns)]) + r" \\")
    lines.append(r"\midrule")
    for number, row in enumerate(table.rows):
        cells = [_shown(cell, r" \pm ", "--") for cell in row.cells]
        cells = [cell if cell == "--" else f"${cell}$" for cell in cells]
        bold = [rf"$\mathbf{{{c[1:-1]}}}$" if number in best[k] else c for k, c in enumerate(cells)]
        lines.append(" & ".join([_escaped(row.name), *bold]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def as_csv(table: Table) -> str:
    """One line per row: name, number of runs, mean and standard deviation per column in percent, empty where absent."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "runs", *(f"{column}{part}" for column in table.columns for part in ("", " std"))])
    for row in table.rows:
        numbers = []
        for cell in row.cells:
            numbers += ["", ""] if cell is None else [f"{100 * cell.mean:.4f}", _percent(cell.std)]
        writer.writerow([row.name, len(row.runs), *numbers])
    return out.getvalue()


def as_json(table: Table) -> str:
    """{"columns", "rows": [{"name", "runs", "cells": {column: {"mean", "std", "runs"} or null}}], "notes",
    "thresholds", "qualities"}; the last two as `details` has their rows."""
    rows = [
        {
            "name": row.name,
            "runs": [str(run) for run in row.runs],
            "cells": {
                column: None if cell is None else {"mean": cell.mean, "std": cell.std, "runs": cell.runs}
                for column, cell in zip(table.columns, row.cells, strict=True)
            },
        }
        for row in table.rows
    ]
    below = {
        "thresholds": [asdict(row) for row in table.thresholds],
        "qualities": [asdict(row) for row in table.qualities],
    }
    return json.dumps({"columns": list(table.columns), "rows": rows, "notes": table.notes, **below}, indent=2) + "\n"


KINDS = {
    "markdown": text_with(["| Run |"], (".md", ".markdown", ".txt"), "Markdown table"),
    "latex": text_with([r"\begin{tabular}{lc"], (".tex", ".txt"), "LaTeX table"),
    "csv": text_with(["run,runs,"], (".csv", ".txt"), "CSV"),
    "json": json_with(("columns", "rows", "notes"), "JSON table"),
}
FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": as_json,
}


def _best(table: Table) -> list[set[int]]:
    """Of each column the rows with the best number, equal as they are printed; none where fewer than two have one."""
    chosen = []
    for column in range(len(table.columns)):
        means = {n: f"{100 * c.mean:.2f}" for n, row in enumerate(table.rows) if (c := row.cells[column]) is not None}
        top = max(map(float, means.values()), default=0.0)
        chosen.append({n for n, shown in means.items() if float(shown) == top} if len(means) > 1 else set())
    return chosen


def _shown(cell: Cell | None, plus_minus: str, dash: str) -> str:
    if cell is None:
        return dash
    deviation = "" if cell.std is None else f"{plus_minus}{100 * cell.std:.2f}"
    return f"{100 * cell.mean:.2f}{deviation}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.4f}"


def _escaped(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)

"""Tables of what the runs have given, in the shape of the paper's and beside the paper's own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from ..evaluation.report.results import Result, read_results
from ..evaluation.report.table import report
from .paper import NAMES
from .plan import PlannedRow, PlannedRun, PlannedTable, read_record
from .run_metrics import GATES, gates_of


def measured_tables(tables: Sequence[PlannedTable], commit: str, command: str) -> dict[str, Any]:
    """Everything as plain values, rates as fractions, the paper's numbers in percent as printed.

    Args:
        tables: with their runs.
        commit: of the code.
        command: that asked for them.

    Returns:
        {"command", "commit", "columns", "tables": [{"key", "title", "rows": [{"label", "about", "paper", "measured":
        {column: {"mean", "std", "runs"} or null}, "runs": [...]}], "notes"}]}; a run has its folder, seed, gates,
        results by protocol and the steps that made it, with command, commit, start and seconds each.

    Raises:
        DataError: saved results or a log that cannot be read.
    """
    return {"command": command, "commit": commit, "columns": list(NAMES), "tables": [_table(table) for table in tables]}


def read_results_of(run: PlannedRun) -> dict[str, Result]:
    """The saved results of a run by protocol; none where it was not begun."""
    return read_results(run.folder) if run.folder.is_dir() else {}


def _table(table: PlannedTable) -> dict[str, Any]:
    given = [f"{row.row.recipe}={run.folder}" for row in table.rows for run in row.runs if read_results_of(run)]
    cells: dict[str, Any] = {}
    notes: list[str] = []
    if given:
        measured = report(given)
        notes = [_shortened(note, table) for note in measured.notes]
        for row in measured.rows:
            cells[row.name] = dict(zip(measured.columns, row.cells, strict=True))
    rows = [_row(row, cells.get(row.row.recipe, {})) for row in table.rows]
    return {"key": table.key, "title": table.title, "rows": rows, "notes": notes}


def _shortened(note: str, table: PlannedTable) -> str:
    """A note with rows and seeds in the place of folders, and with one word for all of them."""
    folders = [str(run.folder) for row in table.rows for run in row.runs if read_results_of(run)]
    note = note.replace(", ".join(folders), "every run")
    for row in table.rows:
        for run in row.runs:
            note = note.replace(str(run.folder), f"{row.row.label} (seed {run.seed})")
        note = note.replace(f"{row.row.recipe}:", f"{row.row.label}:")
    return note


def _row(planned: PlannedRow, cells: Mapping[str, Any]) -> dict[str, Any]:
    measured = {
        name: None if cells.get(name) is None else vars(cells[name]) for name in NAMES
    }  # fmt: skip
    return {
        "label": planned.row.label,
        "about": planned.row.about,
        "recipe": planned.row.recipe,
        "paper": dict(planned.row.paper),
        "measured": measured,
        "runs": [_run(run) for run in planned.runs],
    }


def _run(run: PlannedRun) -> dict[str, Any]:
    results = {name: result.results for name, result in read_results_of(run).items()}
    return {
        "folder": str(run.folder),
        "seed": run.seed,
        "trained": run.trained(),
        "gates": gates_of(run.folder),
        "steps": read_record(run),
        "results": results,
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The tables for people: percent, mean ± sample standard deviation over the seeds, then the paper's number where
    the table has any."""
    parts = [f"Command: `{found['command']}`\n"]
    for table in found["tables"]:
        parts += [f"## {table['title']}\n", _numbers(table, found["columns"]), _gates(table), _provenance(table)]
    return "\n".join(parts)


def _numbers(table: Mapping[str, Any], columns: Sequence[str]) -> str:
    beside = any(row["paper"] for row in table["rows"])  # one's own recipes have no number of the paper
    lines = [["", "", *columns], ["---", "---", *("---:" for _ in columns)]]
    for row in table["rows"]:
        cells = [_cell(row["measured"][name], row["paper"].get(name), beside) for name in columns]
        lines.append([row["label"], row["about"], *cells])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"
    if beside:
        absent = any(name not in row["paper"] for row in table["rows"] for name in columns)
        text += f"Percent, measured / the paper's. `-`: not measured{'; `?`: the paper has no such number' * absent}.\n"
    else:
        text += "Percent, measured. `-`: not measured.\n"
    return text + "".join(f"\n- {note}" for note in table["notes"]) + ("\n" if table["notes"] else "")


def _cell(measured: Mapping[str, Any] | None, paper: float | None, beside: bool) -> str:
    own = "-"
    if measured is not None:
        deviation = "" if measured["std"] is None else f" ± {100 * measured['std']:.2f}"
        own = f"{100 * measured['mean']:.2f}{deviation}"
    if not beside:
        return own
    return f"{own} / {'?' if paper is None else f'{paper:.2f}'}"


def _gates(table: Mapping[str, Any]) -> str:
    """What the gates did in the last quarter of training, of the rows that have logged it."""
    lines = [["", *GATES.values()], ["---", *("---:" for _ in GATES)]]
    for row in table["rows"]:
        known = {name: [run["gates"][name] for run in row["runs"]] for name in GATES.values()}
        known = {name: [value for value in values if value is not None] for name, values in known.items()}
        if any(known.values()):
            lines.append([row["label"], *(_mean_and_std(values) for values in known.values())])
    text = "The gates in the last quarter of training, percent:\n\n" + "\n".join(
        f"| {' | '.join(line)} |" for line in lines
    )
    return f"{text}\n" if len(lines) > 2 else ""


def _mean_and_std(values: Sequence[float]) -> str:
    if not values:
        return "-"
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{deviation}"


def _provenance(table: Mapping[str, Any]) -> str:
    """Provenance of every number: one line per run."""
    lines = ["| row | seed | commit | started (UTC) | training | evaluation | run |", "|---|---|---|---|---|---|---|"]
    commands: dict[tuple[str, str], None] = {}
    for row in table["rows"]:
        for run in row["runs"]:
            trained = [step for step in run["steps"] if step["what"] == "train"]
            rest = [step for step in run["steps"] if step["what"] != "train"]
            commits = ", ".join(dict.fromkeys(step["commit"] for step in run["steps"])) or "-"
            started = trained[0]["started"] if trained else "-"
            cells = [row["label"], str(run["seed"]), commits, started, _seconds(trained), _seconds(rest)]
            lines.append(f"| {' | '.join(cells)} | {run['folder']} |")
            for step in run["steps"]:
                commands[step["what"], step["command"].replace(run["folder"], "RUN")] = None
    shown = [f"{what:<9} {command}" for what, command in commands]
    return "\n".join(lines) + "\n" + ("\n```\n" + "\n".join(shown) + "\n```\n" if shown else "")


def _seconds(steps: Sequence[Mapping[str, Any]]) -> str:
    """Their time together; marked where a step was killed, whose time nobody knows."""
    if not steps:
        return "-"
    killed = any(step["seconds"] is None for step in steps)
    return f"{'more than ' if killed else ''}{sum(step['seconds'] or 0 for step in steps):.0f} s"

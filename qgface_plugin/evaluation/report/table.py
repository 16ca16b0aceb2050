"""Table of the saved results of many runs, in the shape of the paper's Table I."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...config.run import TRACKING
from ...utils.errors import DataError
from ...utils.text import read_json
from .details import QualityRow, ThresholdRow, quality_rows, threshold_rows
from .results import Result, read_results

FAR, IJB_MODE = 1e-4, "N0D1F1"  # of the IJB-B column; where that mode is not saved, the first one that is
PAIR_SETS = ("lfw", "cfp_fp", "agedb_30", "calfw", "cplfw")  # the paper's HQ average
# What two runs of one recipe may differ in.
NOT_THE_RECIPE = (
    "seed", "output", "name", "resume", "notes", "verbose", "frequent", "save_all_states", "num_workers", "set_keys",
    *TRACKING,
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A number of one recipe, a fraction.

    Attributes:
        mean: over its runs.
        std: sample standard deviation over its runs; None for one run.
        runs: number of runs.
    """

    mean: float
    std: float | None
    runs: int


@dataclass(frozen=True)
class Row:
    """A recipe.

    Attributes:
        name: of the row.
        runs: folders of its runs.
        cells: one per column; None where nothing is saved.
    """

    name: str
    runs: tuple[Path, ...]
    cells: tuple[Cell | None, ...]


@dataclass
class Table:
    """Columns, rows, what has to be said about them, and what stands below them.

    Attributes:
        columns: titles.
        rows: of recipes.
        notes: one sentence each.
        thresholds: of every run that has some.
        qualities: the same.
    """

    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    thresholds: list[ThresholdRow] = field(default_factory=list)
    qualities: list[QualityRow] = field(default_factory=list)


@dataclass(frozen=True)
class Column:
    """Where a column's number is: in the results of `protocol`."""

    title: str
    protocol: str
    pick: Callable[[Mapping[str, Any]], float | None]


def _ijb(results: Mapping[str, Any]) -> float | None:
    points = _ijb_mode(results)["tar_at_far"]
    return next((point["nearest"] for point in points if np.isclose(point["far"], FAR, atol=0)), None)


def _ijb_mode(results: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the modes that are saved, the one that the table is of."""
    modes = results["one_to_one"]
    chosen = next((mode for mode in modes if mode["mode"] == IJB_MODE), modes[0])
    if not isinstance(chosen["mode"], str):
        raise TypeError(f"mode {chosen['mode']!r}")
    return chosen


def _rank1_at(distance: str, results: Mapping[str, Any]) -> float | None:
    return results["rank1"][distance]


def _average(results: Mapping[str, Any]) -> float | None:
    accuracies = [entry["accuracy"] for entry in results["sets"].values()]
    return float(np.mean(accuracies)) if accuracies else None


COLUMNS = (
    *(Column(f"SCface d{d}", "scface", partial(_rank1_at, f"d{d}")) for d in (1, 2, 3)),
    Column("TinyFace", "tinyface", lambda results: results["rank"]["1"]),
    Column("IJB-B", "ijbb", _ijb),
    Column("HQ Avg.", "pairs", _average),
)
SHOWN = 3  # settings in a row's name
ALL = "All Avg."  # mean of the columns, for runs that have all of them


def report(runs: Sequence[str | Path]) -> Table:
    """The table of `runs`: folders, or NAME=FOLDER to choose a row's name; runs with one name are one row.

    Runs without a name are one row when their recipe.json say the same but for the seed and where things go.
    Notes say what a reader has to know: warnings in the saved results, data or modes that differ between rows, pair
    sets that are not the five, results that some runs of a row lack.

    Raises:
        DataError: no folder, no results at all, or a file that is no result of its protocol.
    """
    groups = group_runs(runs)
    table = Table((*(column.title for column in COLUMNS), ALL))
    saved = {path: read_results(path) for _, paths in groups for path in paths}
    if not any(saved.values()):
        raise DataError(f"no results are saved in {', '.join(map(str, saved))}: run the evaluation tools first")
    for name, paths in groups:
        values = np.array([_values(saved[path], path) for path in paths])  # (runs, columns), nan where absent
        values = np.column_stack([values, values.mean(axis=1)])
        table.rows.append(Row(name, tuple(paths), tuple(map(_cell, values.T))))
        for column, cell in zip(table.columns, table.rows[-1].cells, strict=True):
            if cell is not None and cell.runs < len(paths):
                table.notes.append(f"{name}: {column} is over {cell.runs} of {len(paths)} runs")
        for path in paths:
            of_run = name if len(paths) == 1 else f"{name}, {path.name}"
            table.thresholds += threshold_rows(of_run, path, saved[path])
            table.qualities += quality_rows(of_run, path, saved[path])
    table.notes += _notes(saved)
    return table


def group_runs(runs: Sequence[str | Path]) -> list[tuple[str, list[Path]]]:
    """Rows' names and their runs' folders, in the order in which they are given.

    A row is named as it was asked for, else by its recipe, else by its folder. Recipes of one name are told apart by
    the settings in which they differ, folders of one name by what stands before it.

    Raises:
        DataError: one folder is given twice.
    """
    groups: dict[tuple[str, str], tuple[str, list[Path]]] = {}
    recipes: dict[tuple[str, str], dict[str, Any]] = {}
    seen: set[Path] = set()
    for given in map(str, runs):
        name, separator, folder = given.partition("=")
        if not separator or Path(given).exists():
            name, folder = "", given
        path = Path(folder)
        if path.resolve() in seen:
            raise DataError(f"{path} is given twice: a run counts once")
        seen.add(path.resolve())
        recipe = None if name else _recipe(path)
        if recipe is not None:
            name, key = str(recipe.get("name") or path.name), ("recipe", _same(recipe))
            recipes.setdefault(key, _settings(recipe))
        else:
            key = ("name", name) if name else ("folder", str(path))
        groups.setdefault(key, (name or path.resolve().name, []))[1].append(path)
    named: list[tuple[str, list[Path]]] = []
    for key, (name, paths) in groups.items():
        alike = [other for other, (its, _) in groups.items() if its == name]
        if len(alike) > 1:
            name = _told_apart(name, paths[0], recipes.get(key), [(recipes.get(k), groups[k][1][0]) for k in alike])
        named.append((name, paths))
    return named


def _settings(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of a recipe by their dotted names, without those in which runs of it may differ."""
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        if prefix or key not in NOT_THE_RECIPE:
            found |= _settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _told_apart(
    name: str, path: Path, recipe: dict[str, Any] | None, alike: Sequence[tuple[dict[str, Any] | None, Path]]
) -> str:
    """A name with what no other row of that name has: settings, else the end of its folder's path."""
    others = [other for other, _ in alike]
    if recipe is not None and None not in others:
        keys = list(dict.fromkeys(key for other in others if other for key in other))
        differing = [key for key in keys if any(other and other.get(key) != recipe.get(key) for other in others)]
        shown = [f"{key}={recipe.get(key)}"[:40] for key in differing[:SHOWN]]
        if len(differing) <= SHOWN:
            return f"{name} ({', '.join(shown)})"
    parts = path.resolve().parts
    tails = [other.resolve().parts for _, other in alike]
    count = next((n for n in range(1, len(parts)) if sum(tail[-n:] == parts[-n:] for tail in tails) == 1), len(parts))
    return f"{name} ({'/'.join(parts[-count:])})" if parts[-1] != name else "/".join(parts[-count:])


def _recipe(run: Path) -> dict[str, Any] | None:
    """The run's recipe.json; None where there is none that can be read, as beside a model from elsewhere."""
    try:
        recipe = read_json(run / "recipe.json", "recipe")
    except DataError:
        return None
    return recipe if isinstance(recipe, dict) else None


def _same(recipe: Mapping[str, Any]) -> str:
    return json.dumps({key: recipe[key] for key in sorted(recipe) if key not in NOT_THE_RECIPE}, sort_keys=True)


def _values(results: Mapping[str, Result], run: Path) -> list[float]:
    values = []
    for column in COLUMNS:
        value = None
        if column.protocol in results:
            try:
                value = column.pick(results[column.protocol].results)
                if value is not None and not math.isfinite(value := float(value)):
                    raise ValueError(f"{value}")
            except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{run}: the saved result of {column.protocol} has no number for {column.title} "
                    f"({type(error).__name__}: {error}); run that evaluation again"
                ) from error
        values.append(np.nan if value is None else value)
    return values


def _cell(values: np.ndarray) -> Cell | None:
    there = values[~np.isnan(values)]
    if not len(there):
        return None
    return Cell(float(there.mean()), float(there.std(ddof=1)) if len(there) > 1 else None, len(there))


def _notes(saved: Mapping[Path, Mapping[str, Result]]) -> list[str]:
    notes = []
    flat = [(run, result) for run, results in saved.items() for result in results.values()]
    for protocol in dict.fromkeys(column.protocol for column in COLUMNS):
        rows = [(run, result) for run, result in flat if result.protocol == protocol]
        if len(data := dict.fromkeys(os.path.normpath(result.data) for _, result in rows)) > 1:
            notes.append(f"{protocol}: the rows are not of the same data: {', '.join(data)}")
        if protocol == "ijbb" and rows:
            modes = ", ".join(dict.fromkeys(_ijb_mode(result.results)["mode"] for _, result in rows))
            notes.append(f"IJB-B: TAR at FAR {FAR:g} (nearest point of the curve), mode {modes}")
        if protocol == "pairs":
            for sets in dict.fromkeys(tuple(sorted(result.results["sets"])) for _, result in rows):
                if set(sets) != set(PAIR_SETS):
                    notes.append(f"HQ Avg. is over {', '.join(sets)}, not over {', '.join(PAIR_SETS)}")
    for run, results in saved.items():
        if len({result.model for result in results.values()}) > 1:
            models = ", ".join(f"{protocol} of {result.model}" for protocol, result in results.items())
            notes.append(f"{run}: its results are of different models: {models}")
    warned: dict[tuple[str, str], list[str]] = {}
    for run, result in flat:
        for warning in result.warnings:
            warned.setdefault((result.protocol, warning), []).append(str(run))
    return notes + [f"{protocol} of {', '.join(runs)}: {text}" for (protocol, text), runs in warned.items()]

"""Metrics of a run as figures and tables read them: metrics.jsonl by name of the number, and the gates towards its end.

Without what its gates did nobody can say what a row of a table stands for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..utils.errors import ConfigError, DataError
from ..utils.text import read_json_lines

WHAT = "log of a run's numbers"

# key in metrics.jsonl -> how tables call it; all are fractions
GATES = {
    "lq_share_pair": "pairs below b",
    "lq_share_view": "views below b",
    "quality_order": "quality order",
    "norm_order": "norm order",
}
LAST = 0.25  # share of the steps that is looked at


@dataclass(frozen=True)
class RunMetrics:
    """What a run has logged.

    Attributes:
        name: for legends.
        terms: name of a training term -> steps and values.
        accuracy: name of a verification set -> steps and accuracies, fractions.
    """

    name: str
    terms: Mapping[str, tuple[np.ndarray, np.ndarray]]
    accuracy: Mapping[str, tuple[np.ndarray, np.ndarray]]


def read_metrics(run: str | Path, name: str | None = None) -> RunMetrics:
    """The metrics of a run. Values that were not finite are left out.

    Args:
        run: its folder.
        name: for legends; None: the folder's.

    Raises:
        DataError: the log cannot be read, or no training step is in it; names the file.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: it cannot be read (No such file or directory); name a run's folder")
    terms: dict[str, list[tuple[float, float]]] = {}
    accuracy: dict[str, list[tuple[float, float]]] = {}
    for number, line in read_json_lines(path, WHAT):
        where = f"{path} line {number}"
        if not isinstance(line, dict) or not isinstance(line.get("kind"), str):
            raise DataError(
                f"{where}: {json.dumps(line)[:80]} is no line of numbers, which has a `kind`; remove the line"
            )
        if line["kind"] not in ("train", "verification"):
            continue
        step = _number(line.get("step"))
        if step is None:
            raise DataError(f"{where}: its step is {repr(line.get('step'))[:80]}; remove the line")
        if line["kind"] == "train":
            for key, value in line.items():
                if key not in ("kind", "step") and (found := _number(value)) is not None:
                    terms.setdefault(key, []).append((step, found))
        else:
            of, found = line.get("name"), _number(line.get("accuracy"))
            if not isinstance(of, str) or found is None:
                raise DataError(f"{where}: a verification without name or accuracy; remove the line")
            accuracy.setdefault(of, []).append((step, found))
    if not terms:
        raise DataError(f"{path}: no line of a training step is in it")
    return RunMetrics(name or Path(run).resolve().name, _arrays(terms), _arrays(accuracy))


def _number(value: object) -> float | None:
    """A finite number of JSON; None for anything else, and for one beyond float64."""
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_runs(given: Sequence[str]) -> list[RunMetrics]:
    """Metrics of runs as the user names them: FOLDER, or NAME=FOLDER.

    Raises:
        DataError: as `read_metrics`.
        ConfigError: one name is there twice.
    """
    runs = []
    for one in given:
        name, folder = split_name(one)
        runs.append(read_metrics(folder, name))
    names = [run.name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two runs are called {twice}: write NAME=FOLDER to tell them apart")
    return runs


def split_name(given: str) -> tuple[str | None, str]:
    """Name and folder of "NAME=FOLDER"; a folder alone has no name.

    Example:
        >>> split_name("QGFace=work_dirs/q1"), split_name("work_dirs/q1")
        (('QGFace', 'work_dirs/q1'), (None, 'work_dirs/q1'))
    """
    name, separator, folder = given.partition("=")
    return (name, folder) if separator and not Path(given).exists() else (None, given)


def smooth(values: np.ndarray, points: int = 60) -> np.ndarray:
    """Running mean over a window that leaves about `points` independent values; as it is where it has fewer.

    Example:
        >>> smooth(np.array([1.0, 3.0, 5.0, 7.0]), points=2).tolist()
        [1.0, 2.0, 4.0, 6.0]
    """
    width = max(1, len(values) // points)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    at = np.arange(1, len(values) + 1)
    first = np.maximum(at - width, 0)
    return (sums[at] - sums[first]) / (at - first)


def _arrays(found: Mapping[str, list[tuple[float, float]]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: tuple(np.array(points, dtype=float).T) for name, points in found.items()}


def gates_of(run: Path) -> dict[str, float | None]:
    """Means over the last quarter of the logged steps; None for what the run does not log, or has not logged yet.

    `pairs below b` is the share of pairs with u_p <= b: contrasted where the run has a queue (the paper's D has none).

    Raises:
        DataError: a log that cannot be read.
    """
    terms = read_metrics(run).terms if (run / "metrics.jsonl").is_file() else {}
    return {name: _end(*terms[key]) if key in terms else None for key, name in GATES.items()}


def _end(steps: np.ndarray, values: np.ndarray) -> float:
    return float(values[steps > (1 - LAST) * steps.max()].mean())

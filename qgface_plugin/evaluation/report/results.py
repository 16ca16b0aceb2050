"""Saved results: `<run>/results/<protocol>.json` beside the evaluated model, of one shape for all protocols."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import ConfigError, DataError
from ...utils.files import write_text
from ...utils.listing import files_in
from ...utils.outputs import check_output, report_of
from ...utils.text import read_json
from ..data_mark import data_mark

FOLDER = "results"
MARK = "data_mark"  # the setting that says what the data looked like
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
OF_THE_RUN = re.compile(r"model|backbone|checkpoint.*")  # one to a folder


@dataclass(frozen=True)
class Result:
    """What one model scored on one protocol. All rates are fractions in [0, 1].

    Attributes:
        protocol: "pairs", "scface", "tinyface", "ijbb", "ijbc" (lower case letters, digits, `_`, `-`): the file's name.
        data: the folder or file that was evaluated.
        model: the model's file or folder, or the name of a pack.
        settings: what else decides the numbers (network, color, flip fusion, mode, ...).
        results: the numbers, by protocol.
        warnings: what a reader has to know, one sentence each.
    """

    protocol: str
    data: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


RESULT = report_of(Result)


def default_path(model: str | Path, protocol: str) -> Path:
    """`results/<protocol>.json` of the model's folder, so that models side by side do not replace each other's.

    The folder is the run's, where the file has a run's name for its encoder (`model.pt`, `checkpoint_gpu_0.pt`,
    `model.onnx`, `backbone.pth`); of another file the one beside it with its name, `faces/` of `faces.onnx`; of a
    model that is a name and no file, `work_dirs/<name>`.

    Example:
        >>> default_path("work_dirs/qgface_r34/model.pt", "scface").as_posix()
        'work_dirs/qgface_r34/results/scface.json'
        >>> default_path("encoders/faces.onnx", "pairs").as_posix()
        'encoders/faces/results/pairs.json'
    """
    path = Path(model)
    folder = path
    if path.suffix and not path.is_dir():
        folder = path.parent if OF_THE_RUN.fullmatch(path.stem) else path.with_suffix("")
    elif path.is_file():  # its name cannot be a folder's too
        folder = path.parent
    elif not path.exists() and path.parent == Path():
        folder = Path("work_dirs") / path
    return folder / FOLDER / f"{protocol}.json"


def write_result(
    protocol: str,
    *,
    data: str | Path,
    model: str | Path,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    warnings: Sequence[str] = (),
    path: str | Path | None = None,
) -> Path:
    """Save a result and return where. Folders are made; the file appears under its name only when it is complete.

    NumPy numbers and arrays become plain ones, floats that are not finite become null, keys become strings. Paths of
    model and data are saved as absolute ones, so that they say the same in another working directory. What the data
    look like now is saved among the settings (see `evaluation.data_mark`).

    Args:
        protocol, data, model, settings, results, warnings: as `Result` has them.
        path: another file than `default_path(model, protocol)`.

    Raises:
        ConfigError: a protocol name that is no file name, or `path` is a file that is no saved result.
        DataError: the file cannot be written.
    """
    if not NAME.fullmatch(protocol):
        raise ConfigError(f"protocol is {protocol!r}: lower case letters, digits, - and _ make a protocol's name")
    path = Path(path) if path is not None else default_path(model, protocol)
    try:
        if mark := data_mark(data, protocol):
            settings = {**settings, MARK: mark}
        result = Result(protocol, absolute(data), absolute(model), dict(settings), dict(results), list(warnings))
        check_output(path, RESULT, [model])
        write_text(path, json.dumps(_plain(asdict(result)), indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(f"{path}: the result cannot be written ({error.strerror})") from error
    return path


def absolute(named: str | Path) -> str:
    """The absolute path of a file or folder that is there; the name of anything else, such as a pack."""
    return os.path.abspath(named) if os.path.exists(named) else str(named)


def read_result(path: str | Path) -> Result:
    """One saved result.

    Raises:
        DataError: the file cannot be read or is no saved result; names it.
    """
    path = Path(path)
    values = read_json(path, "result")
    kinds = {"protocol": str, "data": str, "model": str, "settings": dict, "results": dict, "warnings": list}
    for key, kind in kinds.items():
        if not isinstance(values, dict) or not isinstance(values.get(key), kind):
            raise DataError(f"{path}: not a saved result: {key!r} is missing or no {kind.__name__}")
    if not all(isinstance(warning, str) for warning in values["warnings"]):
        raise DataError(f"{path}: not a saved result: its warnings are not all text")
    return Result(**{key: values[key] for key in kinds})


def read_results(run: str | Path) -> dict[str, Result]:
    """All saved results of a run by protocol, in the order of their names; empty when there are none.

    Args:
        run: the run's folder, or its `results` folder.

    Raises:
        DataError: no such folder, or a file in it that is no result.
    """
    run = Path(run)
    if not run.is_dir():
        raise DataError(f"{run}: no such folder; name a run's folder, which holds {FOLDER}/<protocol>.json")
    folder = run if run.name == FOLDER else run / FOLDER
    results: dict[str, Result] = {}
    for path in files_in(folder, ".json"):
        result = read_result(path)
        if result.protocol in results:
            raise DataError(
                f"{path}: protocol {result.protocol!r} is in another file of {folder} too; keep one of them"
            )
        results[result.protocol] = result
    return results


def _plain(value: Any) -> Any:
    """`value` of nothing but what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return str(value)

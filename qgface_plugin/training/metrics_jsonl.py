"""Log of a run's numbers, metrics.jsonl: one JSON object per line, each step once, whatever was resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..utils.files import write_text
from ..utils.text import read_json_lines

WHAT = "log of a run's numbers"


class MetricsLog:
    """Appends lines to a file; lines after `start_step`, from a run that this one takes over, are dropped first.

    A last line cut short by a kill is dropped too.

    Args:
        path: the file; its folder exists.
        start_step: global steps that are done already; 0 drops all lines.

    Raises:
        DataError: the file of before cannot be read, and its lines are to stay; names it.
        OSError: the file cannot be written.

    Attributes:
        kept: the lines that stay, as dicts.

    Example:
        >>> import tempfile
        >>> log = MetricsLog(Path(tempfile.mkdtemp()) / "metrics.jsonl")
        >>> log.write({"step": 1, "loss": 2.5})
        >>> log.write({"step": 2, "loss": float("nan")})
        >>> log.close()
        >>> MetricsLog(log.path, start_step=1).kept
        [{'step': 1, 'loss': 2.5}]
    """

    def __init__(self, path: str | Path, start_step: int = 0) -> None:
        self.path = path = Path(path)
        lines = read_json_lines(path, WHAT, damaged=True) if start_step > 0 and path.exists() else ()
        parsed = [line for _, line in lines if _is_line(line)]
        self.kept = [line for line in parsed if line["step"] <= start_step and start_step > 0]
        write_text(path, "".join(map(_spell, self.kept)))
        self._file = open(path, "a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line with at least an int `step`; numbers that are not finite become null, as JSON has none.

        Raises:
            OSError: naming the file: a full disk, for example.
        """
        try:
            self._file.write(_spell(line))
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Close the file; nothing can be written any more."""
        self._file.close()


def _spell(line: Mapping[str, Any]) -> str:
    return json.dumps(_plain(line), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_verification(line: Mapping[str, Any]) -> bool:
    """Whether a line is a verification set's result, with the numbers that a resumed run goes on from."""
    if line.get("kind") != "verification" or not isinstance(line.get("name"), str):
        return False
    return all(type(line.get(key)) in (int, float) for key in ("accuracy", "highest"))


def _is_line(line: object) -> bool:
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return False
    try:
        _spell(line)  # it has to be written again
    except (ValueError, RecursionError):  # numbers of thousands of digits, or nested without end
        return False
    return True

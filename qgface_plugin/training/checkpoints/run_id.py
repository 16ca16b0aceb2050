"""Name of the run that a folder belongs to, in run.json: for processes that torchrun starts again."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ...utils import distributed
from ...utils.errors import DataError
from ...utils.files import write_text
from ...utils.text import read_json

RUN_FILE = "run.json"


def restarts(environ: Mapping[str, str] = os.environ) -> int:
    """How often torchrun has started this run again after a failure (TORCHELASTIC_RESTART_COUNT); 0 without it.

    Example:
        >>> restarts({"TORCHELASTIC_RESTART_COUNT": "2"}), restarts({})
        (2, 0)
    """
    return int(environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def run_id(folder: str | Path, *, new: bool) -> str:
    """The name of the run that `folder` belongs to, the same on all ranks; nothing is written.

    Rank 0 makes one up when a `new` run begins, or where there is none in run.json.
    """
    path, name = Path(folder) / RUN_FILE, ""
    if distributed.rank() == 0:
        with suppress(DataError):
            said = None if new else read_json(path, "name of a run")
            found = said.get("id") if isinstance(said, dict) else None
            name = found if isinstance(found, str) else ""
        name = name or uuid.uuid4().hex
    return distributed.gather_objects(name)[0]


def note_run(folder: str | Path, name: str) -> None:
    """Write down, on rank 0, that `folder` belongs to run `name`; once nothing is left that could be refused."""
    if distributed.rank():
        return
    path = Path(folder) / RUN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"id": name}) + "\n")

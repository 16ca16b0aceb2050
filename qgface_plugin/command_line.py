"""What the command lines in tools/ share: exit status, a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from .errors import CheckpointError, ConfigError, DataError


def guarded(tool: str, run: Callable[[], int]) -> int:
    """The status of `run()`; 2 when its input does not fit, 1 when it could not go on, with the reason on stderr.

    A folder that cannot be written or a full disk is the second kind; so is an interruption from the keyboard.
    """
    try:
        return run()
    except (ConfigError, DataError, CheckpointError) as error:
        print(f"{tool}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "name a place that can be written and has room"
        print(f"{tool}: {where}{error.strerror or error}; {hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{tool}: interrupted", file=sys.stderr)
        return 1


def print_table(rows: Mapping[str, object]) -> None:
    """Name and value a line, the values below each other."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON, as `write_bytes` does."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, its folder too where there is none; it appears under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    os.replace(partial, path)

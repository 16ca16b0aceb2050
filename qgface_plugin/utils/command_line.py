"""What the command lines in tools/ share: exit status, a table for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

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


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest entry, the first one flush left and the others flush right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: list[str], widths: list[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

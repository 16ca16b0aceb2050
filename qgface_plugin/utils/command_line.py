"""Command lines: parsers, exit status, a table for people, JSON for programs, and the flag that several have."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .error_file import note_reason
from .errors import ON_CORRUPT, CheckpointError, ConfigError, DataError, Stopped, TrainingError, is_said

STATUS: dict[type[BaseException], int] = {
    ConfigError: 2, DataError: 2, CheckpointError: 2, TrainingError: 1, MemoryError: 1, OSError: 1, Stopped: 143,
    KeyboardInterrupt: 128 + signal.SIGINT,
}  # fmt: skip


PROGRAM = "qgface"


def command_parser(name: str, about: str | None, front: str | None = None) -> argparse.ArgumentParser:
    """Parser of `qgface NAME`, or of a script that does the same.

    What it parses has two attributes for messages: `program`, with which they begin, and `typed`, which calls the
    command again.

    Args:
        name: of the command, such as "eval-pairs".
        about: the description, with examples; those that say `qgface NAME` are shown as the script is called.
        front: the script that was called instead, such as "tools/eval_pairs.py".

    Example:
        >>> command_parser("pack", None).parse_args([]).program
        'qgface pack'
        >>> command_parser("pack", "qgface pack faces", "tools/pack_rec.py").description
        'python tools/pack_rec.py faces'
    """
    program, typed = f"{PROGRAM} {name}", f"{PROGRAM} {name}"
    if front is not None:
        program, about = front.rpartition("/")[2], (about or "").replace(f"-m qgface_plugin {name}", front)
        typed, about = f"python {front}", about.replace(f"{PROGRAM} {name}", f"python {front}")
    parser = argparse.ArgumentParser(
        prog=program, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(program=program, typed=typed)
    return parser


def guarded(tool: str, run: Callable[[], int]) -> int:
    """The status of `run()`; 2 when its input does not fit, 1 when it could not go on, with the reason on stderr.

    What it prints may hold names of any bytes (see `print_any_name`).

    A folder that cannot be written, a full disk and too little memory are the second kind. A run that was asked to
    leave has the status of its signal, and so has an interruption from the keyboard: 130.

    Args:
        tool: the name that messages begin with.
        run: the work, which returns an exit status. What is no user's error passes through.
    """
    print_any_name()
    try:
        return run()
    except tuple(STATUS) as error:
        status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
        if not is_said(error):
            note_reason(_words(error))
            print(f"{tool}: {_words(error)}", file=sys.stderr)
        return error.status if isinstance(error, Stopped) else status


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; name a place that can be written and has room"
    return {MemoryError: "out of memory", KeyboardInterrupt: "interrupted"}.get(type(error)) or str(error)


def print_any_name() -> None:
    """Let standard output show the names of files that are no UTF-8, with escapes, as standard error always does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_table(rows: Mapping[str, object]) -> None:
    """Print one line per row, name and value, the values below each other."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for people: columns as wide as their widest entry, the first flush left and the others flush right.

    Args:
        head: the columns' titles.
        rows: as many cells each.
    """
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: list[str], widths: list[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def add_on_corrupt(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add --on-corrupt {error,skip}: what is done about images that are missing or cannot be used.

    Its earlier names, `--on-bad` and `--skip-bad`, are still taken in this version, with one line of notice on stderr.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_on_corrupt(parser)
        >>> parser.parse_args(["--on-corrupt", "skip"])
        Namespace(on_corrupt='skip')
    """
    parser.add_argument(
        "--on-corrupt",
        choices=ON_CORRUPT,
        default=ON_CORRUPT[0],
        help="images that are missing or cannot be used: refuse, or leave them out, counted and named [%(default)s]",
    )
    hidden: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument("--on-bad", action=_FormerFlag, dest="on_corrupt", choices=ON_CORRUPT, **hidden)
    parser.add_argument("--skip-bad", action=_FormerFlag, dest="on_corrupt", nargs=0, **hidden)


class _FormerFlag(argparse.Action):
    """An earlier name of --on-corrupt; without a value it stands for `skip`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        value = values or "skip"
        print(f"{parser.prog}: {option_string} is called --on-corrupt {value} now", file=sys.stderr)
        setattr(namespace, self.dest, value)

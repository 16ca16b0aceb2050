"""Attachment of the plugin to a checkout: one marked line in its `train_v2.py`, put in and taken out again."""

from __future__ import annotations

import ast
import codecs
import re
from pathlib import Path

from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from .checkout import SCRIPT, parse, trainer_of

STATEMENT = b"import qgface_plugin.arcface_torch.autoload"
MARK = b"  # added by qgface_plugin attach"
LINE = STATEMENT + MARK
FORMER = b"import qgface_plugin.hosts.autoload"  # of version 0.1; it goes on working


def attach(folder: str | Path) -> str:
    """Let the checkout's `train_v2.py` load the plugin; returns what was done, for people.

    The line goes above the first statement, after a docstring and `from __future__` imports, with the file's own line
    ending; every other byte, and the file's mode, stay. A second call changes nothing. The line of an earlier version
    becomes this one's.

    Args:
        folder: an arcface_torch checkout.

    Raises:
        ConfigError: The folder or its file is not arcface_torch's, or cannot be written.
    """
    file = trainer_of(Path(folder)).resolve()
    mark, lines = _split(file.read_bytes())
    if ours := _ours(lines):
        if all(lines[number].startswith(STATEMENT) for number in ours):
            return f"already attached: {file}"
        lines = [line.replace(FORMER, STATEMENT) if number in ours else line for number, line in enumerate(lines)]
        _write(file, [mark, *lines])
        return f"attached: {file} line {ours[0] + 1}, in the place of an earlier version's"
    if by_hand := _by_hand(lines):
        return f"already attached by hand: {file} line {by_hand} imports the plugin"
    at = _place(file, lines)
    ending = lines[0][len(lines[0].rstrip(b"\r\n")) :]
    _write(file, [mark, *lines[:at], LINE + ending, *lines[at:]])
    return f"attached: {file} line {at + 1}"


def detach(folder: str | Path) -> str:
    """Take the line that `attach` put in out again, byte for byte; returns what was done, for people.

    A second call changes nothing, and a line that differs from attach's is never touched.

    Args:
        folder: an arcface_torch checkout.

    Raises:
        ConfigError: The folder or its file is not arcface_torch's, or cannot be written.
    """
    file = (Path(folder) / SCRIPT).resolve()
    mark, lines = _split(file.read_bytes() if file.is_file() else b"")
    if not (ours := _ours(lines)):
        trainer_of(Path(folder))
        by_hand = _by_hand(lines)
        hint = f"; its line {by_hand} imports the plugin, but was not written by attach: remove it by hand"
        return f"not attached: {file}" + (hint if by_hand else "")
    _write(file, [mark, *(line for number, line in enumerate(lines) if number not in ours)])
    return f"detached: {file}"


def is_attached(file: Path) -> bool:
    """Whether a `train_v2.py` imports the plugin, by attach's line or by one written by hand."""
    _, lines = _split(file.read_bytes())
    return bool(_ours(lines)) or _by_hand(lines) is not None


def _split(source: bytes) -> tuple[bytes, list[bytes]]:
    """The byte order mark, if there is one, and the lines as Python counts them, with their endings."""
    mark = codecs.BOM_UTF8 if source.startswith(codecs.BOM_UTF8) else b""
    return mark, re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z", source[len(mark) :])


def _ours(lines: list[bytes]) -> list[int]:
    return [number for number, line in enumerate(lines) if line.rstrip(b"\r\n") in (LINE, FORMER + MARK)]


def _by_hand(lines: list[bytes]) -> int | None:
    """Number, from 1, of a line with the import that attach has not written."""
    imports = re.compile(rb"\s*(" + re.escape(STATEMENT) + b"|" + re.escape(FORMER) + rb")\s*(#.*|;.*)?[\r\n]*\Z")
    found = (number for number, line in enumerate(lines, start=1) if imports.match(line))
    ours = _ours(lines)
    return next((number for number in found if number - 1 not in ours), None)


def _place(file: Path, lines: list[bytes]) -> int:
    """How many lines stand above the first statement that is neither docstring nor `from __future__`."""
    end = 0
    for number, statement in enumerate(parse(file, b"".join(lines)).body):
        docstring = number == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if docstring or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            end = statement.end_lineno or end
            continue
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
        if first <= end:
            raise ConfigError(f"{file}: line {first} holds two statements: put them on two lines, then attach")
        return first - 1
    raise ConfigError(f"{file}: no statement to attach to")


def _write(file: Path, lines: list[bytes]) -> None:
    """Replace a file at once: an interruption leaves the old one or the new one."""
    try:
        with atomic_write(file, durable=True) as stream:
            stream.write(b"".join(lines))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error

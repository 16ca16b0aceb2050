"""Outputs of tools: a file that a tool did not write itself, or that it reads, is never written over.

A tool asks before its work begins (`check_output`), and writes over what is there only when that is a file of the same
suffix and kind, as when it runs a second time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from .errors import ConfigError
from .text import read_json

SMALL = 1 << 16  # bytes from the beginning that tell a kind


@dataclass(frozen=True)
class Kind:
    """What a tool writes.

    Attributes:
        what: in words, for messages.
        suffixes: of its files, in lower case.
        holds: whether a file is one of them.
    """

    what: str
    suffixes: tuple[str, ...]
    holds: Callable[[Path], bool]


def check_output(path: str | Path | None, kind: Kind, inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse a name whose file is not the tool's to write over.

    Args:
        path: of the file to write; None: none is asked for.
        kind: what will be written.
        inputs: files that the tool reads, or will yet; None and what is no file are passed over.

    Raises:
        ConfigError: `path` is one of the inputs, a folder, or a file of another kind; says what to do.
        OSError: its folder cannot be written, or cannot be made; names the one that hinders.
    """
    if path is None:
        return
    path = Path(path)
    check_folder(path)
    if not os.path.lexists(path):
        return
    check_no_input(path, inputs)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name the file to write, such as {path / ('x' + kind.suffixes[0])}")
    if path.suffix.lower() not in kind.suffixes or not path.is_file() or not _holds(kind, path):
        raise ConfigError(
            f"{path} is there already and is no {kind.what} of this tool's: name another file, or move that one away"
        )


def check_folder(path: str | Path) -> None:
    """See that a file can be written there before hours of work go into it.

    Raises:
        OSError: its folder cannot be written, or cannot be made; names the one that hinders.
    """
    folder = Path(path).parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    problem = None
    if not folder.is_dir():
        problem = errno.ENOTDIR
    elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        problem = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
    if problem is not None:
        raise OSError(problem, os.strerror(problem), str(folder))


def check_no_input(path: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse a name to write that is one of the inputs, under whatever name; those that are no files are passed over.

    Raises:
        ConfigError: it is one.
    """
    for given in inputs:
        if given is not None and os.path.exists(path) and os.path.exists(given) and os.path.samefile(path, given):
            raise ConfigError(f"{path} is an input of this tool ({given}): name another place to write to")


def _holds(kind: Kind, path: Path) -> bool:
    try:
        return path.stat().st_size == 0 or kind.holds(path)
    except (OSError, BadZipFile, KeyError, ValueError, StopIteration, RuntimeError):
        return False


def json_with(keys: Collection[str], what: str = "JSON") -> Kind:
    """JSON objects that have all of these keys."""

    def holds(path: Path) -> bool:
        content = read_json(path, what)  # its DataError is a ValueError
        return isinstance(content, dict) and set(keys) <= content.keys()

    return Kind(what, (".json",), holds)


def report_of(report: type) -> Kind:
    """JSON of a dataclass, as the tools' --json has it."""
    return json_with([field.name for field in fields(report)], "report")


def text_with(beginnings: Collection[str], suffixes: tuple[str, ...], what: str) -> Kind:
    """Texts that begin with one of these."""

    def holds(path: Path) -> bool:
        return _head(path).startswith(tuple(beginning.encode() for beginning in beginnings))

    return Kind(what, suffixes, holds)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(SMALL)


def _is_pair_set(path: Path) -> bool:
    """A pickle of two lists, by its first bytes in protocol 2 and later, and its last one."""
    with open(path, "rb") as file:
        head = file.read(2)
        file.seek(-1, os.SEEK_END)
        return head[:1] == b"\x80" and head[1] in range(2, 6) and file.read(1) == b"."


def _is_our_onnx(path: Path) -> bool:
    """An ONNX file with this project's metadata, which stand at its end."""
    with open(path, "rb") as file:
        head = file.read(1)
        file.seek(max(0, path.stat().st_size - SMALL))
        return head == b"\x08" and b"qgface_plugin" in file.read()


def _is_checkpoint(path: Path) -> bool:
    with ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as file:
            return b"state_dict_softmax_fc" in file.read(1 << 24)


def _is_our_weights(path: Path) -> bool:
    """A file of torch.save with this project's seal at its end, and no training checkpoint."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 256))
        return b"qgface-sha256:" in file.read() and not _is_checkpoint(path)


PNG = Kind("PNG", (".png",), lambda path: _head(path).startswith(b"\x89PNG\r\n\x1a\n"))
PDF = Kind("PDF", (".pdf",), lambda path: _head(path).startswith(b"%PDF-"))
PAIR_SET = Kind("pair set", (".bin",), _is_pair_set)
ONNX = Kind("export to ONNX", (".onnx",), _is_our_onnx)
CHECKPOINT = Kind("training checkpoint", (".pt", ".pth"), _is_checkpoint)
WEIGHTS = Kind("model.pt", (".pt", ".pth"), _is_our_weights)

"""Checkpoints that survive a kill, a full disk and a damaged file; readable by plain `torch.load(weights_only=True)`.

A reader sees the old file or the new one, never a part (`files.atomic_write`). The keys of a training checkpoint are
arcface_torch's; what this project adds is under `qgface`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import stat
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from .errors import CheckpointError
from .files import atomic_write
from .torch_archive import check_entries, check_outline

FORMAT = 1  # of what is under "qgface"; a file of a later format is refused
KEYS = (
    "epoch",
    "global_step",
    "state_dict_backbone",
    "state_dict_softmax_fc",
    "state_optimizer",
    "state_lr_scheduler",
)


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path` atomically and durably; on any failure the file of before is whole and in place.

    Args:
        path: the file.
        state: tensors, numbers, strings, None, and dicts, lists, tuples of them: what weights_only can load.

    Raises:
        CheckpointError: An entry is anything else, or the file cannot be written; the message names the entry, or the
            reason.
    """
    with replacing(Path(path), state):
        pass


def load(path: str | Path) -> Any:
    """The object in `path`, on the CPU, after a check that the file is whole; code in the file is never run.

    Raises:
        DamagedError: The file is cut short or has changed (by the SHA-256 of our own files, by the archive's CRCs of
            arcface_torch's), cannot be read, or is no file.
        CheckpointError: It is absent, or holds more than tensors and plain values.
    """
    path = Path(path)
    try:
        _check_regular(path)
        check_whole(path)
        with open(path, "rb") as file:
            check_outline(file, path)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        if name is None:  # the outline was one of tensors and plain values, so what does not fit in it is damage
            reason = str(error).partition(" error: ")[2] or str(error) or type(error).__name__
            raise DamagedError(f"{path} is damaged: {reason.splitlines()[0]}") from error
        raise CheckpointError(
            f"{path} is refused: it asks for {name[1]}, and such a file can run any code when it is loaded. A "
            "checkpoint holds tensors, numbers, strings and dicts or lists of them"
        ) from error
    except Exception as error:  # a damaged pickle can fail in almost any way
        reason = (str(error).splitlines() or [""])[0]
        raise DamagedError(f"{path} is damaged: {reason or type(error).__name__}") from error


def peek(path: str | Path) -> Any:
    """The object in `path` without reading what its tensors hold, for its numbers; not checked to be whole.

    Raises:
        CheckpointError: As `load` has it, where not even the head can be read.
    """
    try:
        _check_regular(Path(path))
        with open(path, "rb") as file:
            check_outline(file, Path(path))
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever it is, `load` has the words for it
        return load(path)


def _check_regular(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{path} does not exist") from error
    if not stat.S_ISREG(mode):
        raise DamagedError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'a device or pipe'}, not a file")


@contextmanager
def replacing(path: Path, state: Mapping[str, Any]) -> Iterator[None]:
    """Write `state` beside `path`, let the body make room, put it in place.

    The body runs once the new file is on the disk. Arguments and errors are those of `save`.
    """
    _check_plain(state, "state")
    with _replacing(path, dict(state)):
        yield


def replace_file(path: Path, content: object) -> None:
    """Write what another program's loop saves, whatever it holds, as `save` does.

    Raises:
        CheckpointError: the file cannot be written; the message gives the reason.
    """
    with _replacing(path, content):
        pass


@contextmanager
def _replacing(path: Path, content: object) -> Iterator[None]:
    try:
        with atomic_write(path, "w+b", durable=True) as file:
            torch.save(content, file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
            yield
    except (OSError, RuntimeError) as error:
        reason = _os_error(error)
        if reason is None:
            raise
        kept = f"the one saved before is whole: {path}" if path.is_file() else "there is none saved before"
        raise CheckpointError(f"{path} could not be saved: {reason.strerror or reason}; {kept}") from error


def _os_error(error: BaseException | None) -> OSError | None:
    """torch.save turns the OSError of a failed write into a RuntimeError that no longer says why."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, torch.Tensor) or type(value) in (bool, int, float, str, type(None)):
        return
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _check_plain(key, f"the key {key!r} of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    else:
        raise CheckpointError(
            f"{where} is {type(value).__module__}.{type(value).__qualname__}: a checkpoint holds tensors, numbers, "
            "strings, None, and dicts, lists, tuples of them, so that it loads without running code"
        )


# The checksum of a file: torch.load itself notices a missing end, but no flipped byte. It is the SHA-256 of all that
# precedes it, kept as the comment that a ZIP archive may have at its very end, so that torch.load and unzip read the
# file. Files without one have the CRCs of their archive.
_ZIP_END, _ZIP_END_LENGTH = b"PK\x05\x06", 22  # the archive's last record; its last two bytes: length of the comment
_SEAL, _SEAL_LENGTH = b"qgface-sha256:", 14 + 64


class DamagedError(CheckpointError):
    """A file is cut short, has changed since it was written, or cannot be read."""


def seal(file: IO[bytes]) -> None:
    """Append the SHA-256 of the archive as its comment; the comment's length is part of what is hashed."""
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", _SEAL_LENGTH))
    end = file.tell()
    digest = _digest(file, end)
    file.seek(end)
    file.write(_SEAL + digest)


def check_whole(path: Path) -> None:
    """Check that a file is as it was written.

    Raises:
        DamagedError: It is not; the message gives the reason.
    """
    with open(path, "rb") as file:
        start = file.read(4)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _SEAL_LENGTH - _ZIP_END_LENGTH))
        end = file.read()
        if end.startswith(_ZIP_END) and end[_ZIP_END_LENGTH:].startswith(_SEAL):
            if _digest(file, size - _SEAL_LENGTH) != end[-64:]:
                raise DamagedError(f"{path} is damaged: its SHA-256 is not the one it was saved with")
        elif end[-_ZIP_END_LENGTH:].startswith(_ZIP_END) and end.endswith(b"\0\0"):
            _check_crcs(path, file)
        elif start == b"PK\x03\x04":
            raise DamagedError(f"{path} is cut short: its {size} bytes lack the archive's end")
        else:
            raise DamagedError(f"{path} is damaged, or no file of torch.save (1.6 or later): {size} bytes, no archive")


def _check_crcs(path: Path, file: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            check_entries(archive, file.seek(0, os.SEEK_END))
            entry = archive.testzip()
    except Exception as error:  # zipfile meets garbage with half a dozen types
        raise DamagedError(f"{path} is damaged: {error}") from error
    if entry is not None:
        raise DamagedError(f"{path} is damaged: {entry} does not have the CRC it was saved with")


def _digest(file: IO[bytes], length: int) -> bytes:
    file.seek(0)
    sha = hashlib.sha256()
    while length > 0 and (chunk := file.read(min(length, 1 << 20))):
        sha.update(chunk)
        length -= len(chunk)
    return sha.hexdigest().encode()

"""Checkpoints that survive a kill, a full disk and a damaged file; readable by plain `torch.load(weights_only=True)`.

A file is written under a temporary name and takes its place in one step, so a reader sees the old or the new one. Keys
are arcface_torch's; what this project adds is under `qgface`.
"""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .archive import check_outline
from .seal import DamagedError, check_whole, seal

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

    `state` holds tensors, numbers, strings, None, and dicts, lists, tuples of them: what weights_only can load.
    Raises CheckpointError naming the entry that is anything else, or the reason why it could not be written.
    """
    with replacing(Path(path), state):
        pass


def load(path: str | Path) -> Any:
    """The object in `path`, on the CPU, after a check that the file is whole; code in the file is never run.

    Raises DamagedError for a file that is cut short or changed (the SHA-256 for our own files, the archive's CRCs for
    arcface_torch's), CheckpointError for one that is absent or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    check_whole(path)
    try:
        with open(path, "rb") as file:
            check_outline(file, path)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {name[1]}" if name else "it holds more than tensors and plain values"
        raise CheckpointError(
            f"{path} is refused: {what}, and such a file can run any code when it is loaded. A checkpoint holds "
            "tensors, numbers, strings and dicts or lists of them"
        ) from error
    except Exception as error:  # a damaged pickle can fail in almost any way
        reason = (str(error).splitlines() or [""])[0]
        raise DamagedError(f"{path} is damaged: {reason or type(error).__name__}") from error


def peek(path: str | Path) -> Any:
    """The object in `path` without reading what its tensors hold, for its numbers; not checked to be whole.

    Raises as `load` does where not even the head can be read.
    """
    try:
        with open(path, "rb") as file:
            check_outline(file, Path(path))
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever it is, `load` has the words for it
        return load(path)


@contextmanager
def replacing(path: Path, state: Mapping[str, Any]) -> Iterator[None]:
    """Write `state` beside `path`, let the body make room, put it in place; all else waits until it is on the disk."""
    _check_plain(state, "state")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "w+b") as file:
            torch.save(dict(state), file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
        yield
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        reason = _os_error(error)
        if reason is None:
            raise
        kept = f"the one saved before is whole: {path}" if path.exists() else "there is none saved before"
        raise CheckpointError(f"{path} could not be saved: {reason.strerror or reason}; {kept}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _os_error(error: BaseException | None) -> OSError | None:
    """torch.save turns the OSError of a failed write into a RuntimeError that no longer says why."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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

"""Checkpoints that survive a kill, a full disk and a damaged file; readable by plain `torch.load(weights_only=True)`.

A file is written under a temporary name and takes its place in one step, so a reader sees the old or the new one. Keys
are arcface_torch's; what this project adds is under `qgface`.
"""

from __future__ import annotations

import logging
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

LOGGER = logging.getLogger(__name__)
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
    with _replacing(Path(path), state):
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


class CheckpointStore:
    """The checkpoints of one rank in one folder.

    The newest is `checkpoint_gpu_<rank>.pt`, as arcface_torch names it; the ones before it carry their step,
    `checkpoint_gpu_<rank>.<global_step>.pt`. `keep` (at least 1) counts all of them.
    """

    def __init__(self, folder: str | Path, rank: int = 0, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: at least one checkpoint is kept")
        self.folder, self.rank, self.keep = Path(folder), rank, keep
        self.newest = self.folder / f"checkpoint_gpu_{rank}.pt"
        self._newest_step: int | None = None  # of the file at self.newest, once it is known

    def save(self, state: Mapping[str, Any]) -> Path:
        """Save `state` (all of KEYS, optionally `qgface`) as the newest; the one before moves to its step's name.

        Checkpoints of this step or later, left by a run that this one replaces, are removed. Raises CheckpointError
        as `save` does: what was there before is still there then.
        """
        if missing := [key for key in KEYS if key not in state]:
            raise ValueError(f"a checkpoint needs {', '.join(KEYS)}; missing: {', '.join(missing)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        step, previous = state["global_step"], self._step_of_newest()
        with _replacing(self.newest, {**state, "qgface": {**state.get("qgface", {}), "format": FORMAT}}):
            if previous is not None and previous < step:
                _keep_as(self.newest, self._older(previous))
        self._newest_step = step
        later = [s for s in self._older_steps() if s >= step]
        earlier = [s for s in self._older_steps() if s < step]
        for gone in later + earlier[self.keep - 1 :]:
            self._older(gone).unlink(missing_ok=True)
        return self.newest

    def load_latest(self, at_most: int | None = None) -> dict[str, Any] | None:
        """The newest usable checkpoint, or None where there is no file at all.

        A damaged file is passed over with a warning in the log. `at_most` is for ranks that were stopped between their
        saves: they agree on the smallest `global_step` and load that one. Raises CheckpointError when files exist but
        none is usable, and at once for a file that is refused, of a later format, or no training checkpoint.
        """
        problems: list[str] = []
        for path in [self.newest, *map(self._older, self._older_steps())]:
            if not path.exists():
                continue
            try:
                state = _as_checkpoint(path, load(path))
            except DamagedError as error:
                LOGGER.warning("%s; it is passed over for the checkpoint before it", error)
                problems.append(str(error))
                continue
            if at_most is None or state["global_step"] <= at_most:
                return state
            problems.append(f"{path} is of step {state['global_step']}, after step {at_most}")
        if problems:
            raise CheckpointError(
                f"no usable checkpoint in {self.folder}: {'; '.join(problems)}. Put a whole one there, or start anew "
                "with config.resume = False"
            )
        return None

    def _older(self, step: int) -> Path:
        return self.folder / f"checkpoint_gpu_{self.rank}.{step}.pt"

    def _older_steps(self) -> list[int]:
        pattern = re.compile(rf"checkpoint_gpu_{self.rank}\.(\d+)\.pt")
        found = [pattern.fullmatch(path.name) for path in self.folder.glob("*.pt")]
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def _step_of_newest(self) -> int | None:
        if self._newest_step is None and self.newest.exists():
            try:
                self._newest_step = _as_checkpoint(self.newest, load(self.newest))["global_step"]
            except CheckpointError as error:
                LOGGER.warning("%s; it is replaced, not kept", error)
        return self._newest_step


@contextmanager
def _replacing(path: Path, state: Mapping[str, Any]) -> Iterator[None]:
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


def _keep_as(path: Path, older: Path) -> None:
    try:
        os.link(path, older)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: `path` is absent until the new file takes its place
        os.replace(path, older)


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


def _as_checkpoint(path: Path, state: Any) -> dict[str, Any]:
    missing = [key for key in KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path} is no training checkpoint: it lacks {', '.join(missing)}")
    found = state.get("qgface", {}).get("format", FORMAT)
    if found > FORMAT:
        raise CheckpointError(f"{path} has format {found}, later than this version's {FORMAT}: update qgface_plugin")
    return state

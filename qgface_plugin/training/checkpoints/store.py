"""Checkpoints in a run's folder: which there are, which sets of them are whole, which are kept."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...utils.errors import CheckpointError
from ...utils.files import atomic_path, leftovers
from ...utils.torch_files import FORMAT, KEYS, DamagedError, peek, replacing

LOGGER = logging.getLogger(__name__)
NAME = re.compile(r"checkpoint_gpu_(0|[1-9]\d*)(?:\.(\d+))?\.pt")
SET_ASIDE = "diverged.pt"  # ends the name of a checkpoint that no good step has followed


@dataclass(frozen=True)
class Entry:
    """One checkpoint file.

    Attributes:
        ranks, run_id: None in a file that the built-in loop did not write.
        good: the step that it was saved after had a finite loss and gradient.
    """

    path: Path
    rank: int
    step: int
    ranks: int | None
    run_id: str | None
    good: bool = True


@dataclass(frozen=True)
class CheckpointSet:
    """What the `ranks` ranks of run `run_id` saved after `step`: one checkpoint each."""

    step: int
    ranks: int
    run_id: str
    good: bool = True


def entries(folder: str | Path, wanted: Callable[[int], bool] = lambda rank: True) -> tuple[list[Entry], list[str]]:
    """The checkpoints in `folder` of the ranks that are `wanted`, and what is wrong with the others.

    A file that is damaged, cannot be read, or is not what its name says is such another one. Only heads are read: a
    file may still turn out to be damaged when it is loaded.

    Raises:
        CheckpointError: a file is refused, of a later format, or no training checkpoint; or the folder cannot be read.
    """
    files, problems = [], []
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
    for path in (Path(folder, name) for name in names):
        match = NAME.fullmatch(path.name)
        if not match or not wanted(int(match[1])):
            continue
        try:
            state = as_checkpoint(path, peek(path))
        except DamagedError as error:
            problems.append(str(error))
            continue
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}")
            continue
        except CheckpointError:
            if not path.exists():  # another rank has tidied up meanwhile
                continue
            raise
        extra = state.get("qgface", {})
        if problem := _misnamed(match, state):
            problems.append(f"{path} is {problem}, by what is in it")
            continue
        ranks, name, good = extra.get("world_size"), extra.get("run_id"), not extra.get("bad_in_a_row")
        files.append(Entry(path, int(match[1]), state["global_step"], ranks, name, good))
    return files, problems


def _misnamed(name: re.Match[str], state: Mapping[str, Any]) -> str:
    """Whose a checkpoint is that is not what its name says, else ""; a checkpoint of 0.1.0 does not say its rank."""
    rank, step = state.get("qgface", {}).get("rank"), state["global_step"]
    if rank is not None and rank != int(name[1]):
        return f"of rank {rank}"
    return f"of step {step}" if name[2] is not None and step != int(name[2]) else ""


def complete_sets(files: Iterable[Entry], run_id: str | None = None) -> list[CheckpointSet]:
    """The sets of which no rank's checkpoint is missing: of `run_id` first, then good ones, then the latest step."""
    ranks_of: dict[CheckpointSet, set[int]] = {}
    for entry in files:
        if entry.ranks is not None:
            key = CheckpointSet(entry.step, entry.ranks, entry.run_id or "", entry.good)
            ranks_of.setdefault(key, set()).add(entry.rank)
    whole = [
        key
        for key, ranks in ranks_of.items()
        if len(ranks) >= key.ranks and all(map(ranks.__contains__, range(key.ranks)))
    ]
    return sorted(whole, key=lambda key: (key.run_id == run_id, key.good, key.step, key.ranks), reverse=True)


class CheckpointStore:
    """The checkpoints of one rank of `ranks` in one folder.

    The latest is `checkpoint_gpu_<rank>.pt`, as arcface_torch names it; the ones before it carry their step,
    `checkpoint_gpu_<rank>.<global_step>.pt`. `keep` (at least 1) counts all of them.
    """

    def __init__(self, folder: str | Path, rank: int = 0, ranks: int = 1, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: at least one checkpoint is kept")
        self.folder, self.rank, self.ranks, self.keep = Path(folder), rank, ranks, keep
        self.latest = self.folder / f"checkpoint_gpu_{rank}.pt"
        self._last: int | None = None

    def go_on_from(self, step: int) -> None:
        """The run has resumed after `step`: a latest checkpoint of another step is damaged, or other ranks lack it."""
        self._last = step

    def save(self, state: Mapping[str, Any]) -> Path:
        """Save `state` (all of KEYS, optionally `qgface`) as the latest; the one before moves to its step's name.

        Nothing is removed: that is `prune`'s, once every rank has saved. Raises CheckpointError as `checkpoint.save`
        does: what was there before is still there then.
        """
        if missing := [key for key in KEYS if key not in state]:
            raise ValueError(f"a checkpoint needs {', '.join(KEYS)}; missing: {', '.join(missing)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.latest, {**state, "qgface": {**state.get("qgface", {}), "format": FORMAT}}):
            self._set_aside(state["global_step"])
        self._last = state["global_step"]
        return self.latest

    def prune(self, run_id: str | None = None) -> None:
        """Remove what is superseded: all but the latest `keep` good checkpoints of this run, and those of other runs.

        One that was saved in a bad step stays until a good one follows it. Files of ranks that a run on fewer ranks no
        longer has are removed with the set that they belong to.
        """
        try:
            files, _ = entries(self.folder, lambda rank: rank % self.ranks == self.rank)
        except CheckpointError as error:  # no reason to stop a run that has just saved
            LOGGER.warning("%s; no older checkpoint is removed", error)
            return
        latest = next((e for e in files if e.path == self.latest), None)
        own = sorted({e.step for e in files if e.rank == self.rank and e.run_id == run_id and e.good}, reverse=True)
        kept = [step for step in own if latest is None or step <= latest.step][: self.keep]
        kept += [latest.step] if latest is not None and not latest.good else []
        old = [entry.path for entry in files if entry.run_id != run_id or entry.step not in kept]
        old += [path for path in self.folder.glob(f"checkpoint_gpu_{self.rank}.*.{SET_ASIDE}") if path.is_file()]
        for path, meant in leftovers(self.folder):
            match = NAME.fullmatch(meant)
            if match and int(match[1]) % self.ranks == self.rank:
                old.append(path)
        for path in old:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                LOGGER.warning("%s is superseded, but cannot be removed: %s", path, error.strerror)

    def good_ones(self, run_id: str) -> list[Entry]:
        """This rank's good checkpoints of a run, the latest first."""
        files, _ = entries(self.folder, lambda rank: rank == self.rank)
        return sorted((e for e in files if e.run_id == run_id and e.good), key=lambda e: e.step, reverse=True)

    def retract(self, entry: Entry, before: Entry) -> Path:
        """Give a checkpoint a name that no run resumes from, and the one `before` it that of the latest.

        Returns:
            Where the checkpoint is now; `prune` removes it.
        """
        aside = self.folder / f"checkpoint_gpu_{self.rank}.{entry.step}.{SET_ASIDE}"
        os.replace(entry.path, aside)
        os.replace(before.path, self.latest)
        self._last = before.step
        return aside

    def _set_aside(self, next_step: int) -> None:
        """Give the latest its step's name: what this run saved last or resumed from, or what an earlier run left."""
        if not self.latest.exists():
            return
        if self.latest.is_dir():
            moved = self.latest.with_name(f"{self.latest.name}.folder")
            os.replace(self.latest, moved)
            LOGGER.warning("%s is a folder; its name is %s now", self.latest, moved.name)
            return
        try:
            step = as_checkpoint(self.latest, peek(self.latest))["global_step"]
        except (CheckpointError, OSError) as error:
            LOGGER.warning("%s; it is replaced, not kept", error)
            return
        if step != next_step and self._last in (None, step):
            _keep_as(self.latest, self.folder / f"checkpoint_gpu_{self.rank}.{step}.pt")


def as_checkpoint(path: Path, state: Any) -> dict[str, Any]:
    """`state` when it is a training checkpoint that this version reads; else CheckpointError."""
    missing = [key for key in KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path} is no training checkpoint: it lacks {', '.join(missing)}")
    extra = state.get("qgface", {})
    if type(extra) is not dict or not _fits(state["global_step"], extra):
        raise CheckpointError(
            f"{path} is no training checkpoint: its step, its ranks or its run have no value it can be"
        )
    written = extra.get("format", FORMAT)
    if type(written) is not int or written > FORMAT:
        raise CheckpointError(f"{path} has format {written}, later than this version's {FORMAT}: update qgface_plugin")
    return state


def _fits(step: Any, extra: Mapping[str, Any]) -> bool:
    """Whether what a head says of step, ranks and run is of the types that it can be of; 0.1.0 did not say all."""
    ranks, name = extra.get("world_size"), extra.get("run_id")
    counts = [step, extra.get("rank", 0), extra.get("bad_in_a_row", 0), 1 if ranks is None else ranks]
    return all(type(count) is int for count in counts) and counts[3] > 0 and (name is None or type(name) is str)


def _keep_as(path: Path, older: Path) -> None:
    try:
        with atomic_path(older) as temporary:
            os.link(path, temporary)
    except OSError:  # a file system without hard links: `path` is absent until the new file takes its place
        os.replace(path, older)

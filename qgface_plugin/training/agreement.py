"""Agreement of the ranks, asked once at the start: the same recipe, versions and data on every host.

Ranks that differ train two models that they take for one, or wait for each other for ever. Nothing is written before
they have been compared, and all of them refuse together.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import torch

from ..config.run import TRACKING, Run, flat
from ..data.sources.source import FaceSource
from ..utils import distributed
from ..utils.errors import ConfigError, DataError
from ..utils.files import file_digest

ABSENT = "absent"
OF_A_HOST = frozenset(
    ("name", "notes", "imports", "rec", "host", "num_workers", "output", "init_from")
    + ("train.threads", "finetune.teacher")
)
"""Settings that hosts may have their own of: paths are compared by what is there."""
IN_QGFACE = ("degradation", "data", "train", "finetune", "verify")  # groups that a recipe has under config.qgface


def check_recipes(run: Run) -> None:
    """Refuse, on all ranks, to train when a rank has another recipe, package or torch.

    Args:
        run: the resolved recipe of this rank; also before the data has been counted.

    Raises:
        ConfigError: naming the key, the ranks with their hosts, and both values.
    """
    from .. import __version__

    facts = {key: repr(value) for key, value in flat(run.as_dict()).items() if _counts(key)}
    facts["train.device"] = run.train.device.partition(":")[0]
    facts = {_as_written(key): value for key, value in facts.items()}
    facts |= {"version of qgface_plugin": __version__, "version of torch": torch.__version__}
    if run.init_from:
        facts["SHA-256 of config.init_from"] = _digest(run.init_from)
    if run.finetune.teacher:
        facts["SHA-256 of config.qgface.finetune.teacher"] = _digest(run.finetune.teacher)
    folder = (run.output, os.path.realpath(run.output))
    if problem := _differences(facts, folder):
        raise ConfigError(f"{problem}. Start every rank with the same recipe, package and torch")


def check_data(source: FaceSource) -> None:
    """Refuse, on all ranks, to train when a rank has other data; paths do not count.

    Raises:
        DataError: naming what differs, the ranks with their hosts, and both values.
    """
    facts = {key: str(value) for key, value in source.fingerprint().items()}
    if problem := _differences(facts, ("", "")):
        raise DataError(f"{problem}. Give every host the same data (config.rec, DATA_ROOT)")


def _differences(facts: Mapping[str, str], folder: tuple[str, str]) -> str:
    """What the ranks do not agree on, the same text on all of them; "" where they do."""
    everyone = distributed.gather_objects((socket.gethostname(), dict(facts), folder))
    host, first, there = everyone[0]
    said = []
    for rank, (other_host, other, elsewhere) in enumerate(everyone):
        pairs = [(key, first.get(key, ABSENT), other.get(key, ABSENT)) for key in sorted(first.keys() | other.keys())]
        if there[0] != elsewhere[0] and there[1] != elsewhere[1]:
            pairs.append(("config.output", there[0], elsewhere[0]))
        differing = [pair for pair in pairs if pair[1] != pair[2]]
        for key, one, two in differing[:5]:
            said.append(f"{key} is {one} on rank 0 ({host}) and {two} on rank {rank} ({other_host})")
        if len(differing) > 5:
            said.append(f"and {len(differing) - 5} more on rank {rank}")
        if said:
            break  # one rank that differs is enough to go and look
    return "the ranks do not agree: " + "; ".join(said) if said else ""


def _counts(key: str) -> bool:
    return key not in OF_A_HOST and key not in TRACKING


def _as_written(key: str) -> str:
    """A setting as a recipe writes it."""
    return f"config.qgface.{key}" if key.startswith(IN_QGFACE) else f"config.{key}"


def _digest(path: str) -> str:
    try:
        return file_digest(Path(path))
    except OSError as error:
        return error.strerror or "unreadable"

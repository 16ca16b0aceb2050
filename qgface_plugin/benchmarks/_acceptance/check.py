"""A check of the acceptance: its name, what is expected, and the function that looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Skipped(Exception):
    """What a check needs is not here."""


@dataclass(frozen=True)
class Place:
    """Where a check runs, and how large.

    Attributes:
        device: a GPU; a CPU where the check itself is tested.
        folder: empty, for what it writes.
        small: sizes for a test of the check.
        checkout: an arcface_torch checkout, or None.
    """

    device: torch.device
    folder: Path
    small: bool = False
    checkout: Path | None = None


@dataclass
class Found:
    """What a check has found.

    Attributes:
        good: is it as expected?
        said: in a few words.
        figures: numbers for the report, by name.
    """

    good: bool
    said: str
    figures: dict[str, Any] = field(default_factory=dict)


class Check(NamedTuple):
    """`look` at a place gives what was found; it raises Skipped, and any other error is a check that fails.

    `seconds`: after which it is ended.
    """

    name: str
    expected: str
    look: Callable[[Place], Found]
    seconds: float = 120.0

"""What a target makes and checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Case:
    """Files by name, and `check`, called with the folder that holds them.

    `check` returns how many items it was served (0: none, but nothing refused either) or lets the project's own error
    through; it raises Finding for a wrong answer.
    """

    files: dict[str, bytes]
    check: Callable[[Path], int]
    note: str = ""
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(map(len, self.files.values()))


def pick(rng: np.random.Generator, items: list | tuple):  # noqa: ANN201 - whatever the items are
    """One of the items."""
    return items[int(rng.integers(len(items)))]

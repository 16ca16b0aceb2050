"""Inventory of a data set against its protocol: every difference is counted, named and never passed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

SHOWN = 8  # names in a message; the saved result holds all of them


@dataclass
class Inventory:
    """Counts, names and warnings that are collected while a data set is read.

    Attributes:
        counts: subject of the count -> {"protocol": number, "here": number}.
        names: kind of difference -> all the names.
        warnings: one sentence per difference.

    Example:
        >>> inventory = Inventory()
        >>> inventory.count("probes", protocol=1950, here=1949)
        >>> inventory.name("missing", ["001_cam1_1"], "{} images are missing")
        >>> inventory.warnings
        ['probes: 1,950 in the protocol, 1,949 here', '1 images are missing: 001_cam1_1']
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def count(self, what: str, protocol: int, here: int) -> None:
        """Note both numbers of `what`, and warn when they differ."""
        self.counts[what] = {"protocol": protocol, "here": here}
        if protocol != here:
            self.warnings.append(f"{what}: {protocol:,} in the protocol, {here:,} here")

    def name(self, key: str, names: Iterable[str], sentence: str) -> None:
        """Note all `names` under `key` and warn with `sentence`, in which {} is their number, when there are any."""
        names = list(names)
        self.names[key] = names
        if names:
            self.warnings.append(f"{sentence.format(f'{len(names):,}')}: {listed(names)}")

    def as_dict(self) -> dict[str, Any]:
        """Counts and names, for the saved result."""
        return {"counts": self.counts, "names": self.names}


def listed(names: Sequence[str]) -> str:
    """The first few of `names`, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")

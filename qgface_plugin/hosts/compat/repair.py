"""What a repair is: something that a checkout expects of the packages around it and they no longer have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Repair:
    """One repair of this process; no file of the checkout changes.

    Attributes:
        name: how logs and the doctor call it.
        reason: what fails without it, and with which versions.
        needed: whether this process needs it; False once it is applied.
        apply: applies it.
    """

    name: str
    reason: str
    needed: Callable[[], bool]
    apply: Callable[[], None]

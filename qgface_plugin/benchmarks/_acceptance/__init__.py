"""Checks of `qgface benchmark acceptance`, in the order in which they are run."""

from __future__ import annotations

from .check import Check


def checks() -> list[Check]:
    """All of them."""
    from . import numbers, ranks, resuming, speed, suite

    return [*suite.CHECKS, *numbers.CHECKS, *resuming.CHECKS, numbers.EMBEDDING, *speed.CHECKS, *ranks.CHECKS]

"""Repairs that let an arcface_torch checkout run on today's packages, with or without a GPU; no file of it changes.

Each repair is in a file of its own, with its reason and the versions it is for.
"""

from __future__ import annotations

import logging
from pathlib import Path

from . import cpu, interp1d, lr_scheduler, mxnet_standin, renamed, torchvision_standin
from .repair import Repair

__all__ = ["Repair", "apply", "repairs"]

LOGGER = logging.getLogger(__name__)


def repairs(checkout: Path) -> list[Repair]:
    """Every repair there is, needed or not, for the arcface_torch folder `checkout`."""
    checkout = checkout.resolve()
    return [
        lr_scheduler.repair(checkout),
        renamed.repair_amp_names(checkout),
        renamed.repair_numpy_names(checkout),
        interp1d.repair(checkout),
        mxnet_standin.repair(checkout),
        torchvision_standin.repair(checkout),
        cpu.repair(checkout),
    ]


def apply(checkout: Path) -> list[Repair]:
    """Apply what this process needs, before any module of the checkout is imported; one line in the log, with
    the reasons at debug level.

    Returns what was applied now: nothing on a second call. Raises ConfigError when a module that needs repair was
    imported already.
    """
    needed = [repair for repair in repairs(checkout) if repair.needed()]
    for repair in needed:
        repair.apply()
        LOGGER.debug("repaired for arcface_torch: %s (%s)", repair.name, repair.reason)
    if needed:
        names = ", ".join(repair.name for repair in needed)
        LOGGER.info("repaired for arcface_torch, in this process: %s; `qgface doctor` says why", names)
    return needed

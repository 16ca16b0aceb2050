"""The learning rate schedule on a PyTorch whose schedulers no longer take `verbose`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.optim import lr_scheduler

from .repair import Repair, around_import, is_around_import, uses

MODULE = "lr_scheduler"


def repair(checkout: Path) -> Repair:
    """For torch >= 2.7, where `LRScheduler.__init__` lost its argument `verbose`.

    arcface_torch's `lr_scheduler.py` passes `verbose=` to its base class, so training ends with a TypeError. The base
    class that this one module sees accepts and drops it; torch's own classes stay as they are for everybody else.
    """

    def needed() -> bool:
        takes = "verbose" in inspect.signature(lr_scheduler.LRScheduler.__init__).parameters
        passed = uses(checkout, "verbose=verbose", f"{MODULE}.py")
        return passed and not takes and not is_around_import(checkout, MODULE, _forgiving_base)

    return Repair(
        "verbose of schedulers",
        "lr_scheduler.py passes `verbose=` to torch's LRScheduler, which takes it no longer",
        needed,
        lambda: around_import(checkout, MODULE, _forgiving_base),
    )


@contextmanager
def _forgiving_base(module: ModuleType) -> Iterator[None]:
    originals = {name: getattr(lr_scheduler, name) for name in ("_LRScheduler", "LRScheduler")}
    try:
        for name, original in originals.items():
            setattr(lr_scheduler, name, _forgiving(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(lr_scheduler, name, original)


def _forgiving(original: type) -> type:
    class ForgivingScheduler(original):
        def __init__(self, optimizer: Any, last_epoch: int = -1, verbose: object = None) -> None:
            super().__init__(optimizer, last_epoch)

    return ForgivingScheduler

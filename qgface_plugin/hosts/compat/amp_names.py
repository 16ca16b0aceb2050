"""Mixed precision by its older names, `torch.cuda.amp`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch

from .repair import Repair
from .sources import uses

WARNING = r"`torch\.cuda\.amp\.(autocast|GradScaler)\(args\.\.\.\)` is deprecated"


class _Autocast(torch.amp.autocast):
    def __init__(self, enabled: bool = True, dtype: torch.dtype = torch.float16, cache_enabled: bool = True) -> None:
        super().__init__("cuda", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


class _GradScaler(torch.amp.GradScaler):
    def __init__(self, *args: object, **options: object) -> None:
        super().__init__("cuda", *args, **options)


def repair(checkout: Path) -> Repair:
    """For torch >= 2.4, which deprecates `torch.cuda.amp.autocast` and `GradScaler`, and for one that removes them.

    arcface_torch's backbones, `partial_fc_v2.py` and `train_v2.py` use them. Missing names are given by
    `torch.amp`'s classes for CUDA, and exactly these two warnings are silenced.
    """

    def needed() -> bool:
        absent = any(not hasattr(owner, name) for owner, name, _ in _places())
        return (absent or (_deprecated() and not _silenced())) and uses(checkout, r"torch\.cuda\.amp")

    def apply() -> None:
        for owner, name, given in _places():
            if not hasattr(owner, name):
                setattr(owner, name, given)
        warnings.filterwarnings("ignore", message=WARNING, category=FutureWarning)

    return Repair(
        "names of torch.cuda.amp",
        "torch.cuda.amp.autocast and GradScaler are deprecated or gone (torch >= 2.4)",
        needed,
        apply,
    )


def _places() -> list[tuple[ModuleType, str, object]]:
    """(where the name belongs, the name, what is given for it), owners before what they hold."""
    amp = getattr(torch.cuda, "amp", None) or sys.modules.setdefault("torch.cuda.amp", ModuleType("torch.cuda.amp"))
    scaler = getattr(amp, "grad_scaler", None) or sys.modules.setdefault(
        "torch.cuda.amp.grad_scaler", ModuleType("torch.cuda.amp.grad_scaler")
    )
    return [
        (torch.cuda, "amp", amp),
        (amp, "autocast", _Autocast),
        (amp, "GradScaler", _GradScaler),
        (amp, "grad_scaler", scaler),
        (scaler, "GradScaler", _GradScaler),
    ]


def _deprecated() -> bool:
    return hasattr(torch.cuda.amp.autocast, "__deprecated__")


def _silenced() -> bool:
    return any(
        action == "ignore" and category is FutureWarning and message is not None and message.pattern == WARNING
        for action, message, category, *_ in warnings.filters
    )

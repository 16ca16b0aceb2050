"""Names that packages have renamed: torch.cuda.amp's, and those that NumPy gave to Python's own types."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from .repair import Repair, uses

WARNING = r"`torch\.cuda\.amp\.(autocast|GradScaler)\(args\.\.\.\)` is deprecated"


class _Autocast(torch.amp.autocast):
    def __init__(self, enabled: bool = True, dtype: torch.dtype = torch.float16, cache_enabled: bool = True) -> None:
        super().__init__("cuda", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


class _GradScaler(torch.amp.GradScaler):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__("cuda", *args, **options)


def repair_amp_names(checkout: Path) -> Repair:
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
    autocast = torch.cuda.amp.autocast
    return any(hasattr(marked, "__deprecated__") for marked in (autocast, autocast.__init__))  # its place has moved


def _silenced() -> bool:
    return any(
        action == "ignore" and category is FutureWarning and message is not None and message.pattern == WARNING
        for action, message, category, *_ in warnings.filters
    )


NAMES = {"int": int, "float": float, "bool": bool, "object": object}


def repair_numpy_names(checkout: Path) -> Repair:
    """For NumPy >= 1.24, which removed `np.int`, `np.float`, `np.bool` and `np.object` (NumPy 2 has a `np.bool` again).

    arcface_torch's `eval_ijbc.py`, `onnx_ijbc.py`, `torch2onnx.py` and `utils/plot.py` use them. A name that exists
    is left alone.
    """

    def apply() -> None:
        for name in _missing():
            setattr(np, name, NAMES[name])

    return Repair(
        "names of NumPy",
        "eval_ijbc.py, onnx_ijbc.py and torch2onnx.py use np.int and np.float, which NumPy >= 1.24 has no longer",
        lambda: bool(_missing()) and uses(checkout, rf"\bnp\.({'|'.join(NAMES)})\b"),
        apply,
    )


def _missing() -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 1.20 to 1.23 warns when it is asked for them
        return [name for name in NAMES if not hasattr(np, name)]

"""The names that NumPy gave to Python's own types."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from .repair import Repair
from .sources import uses

NAMES = {"int": int, "float": float, "bool": bool, "object": object}


def repair(checkout: Path) -> Repair:
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

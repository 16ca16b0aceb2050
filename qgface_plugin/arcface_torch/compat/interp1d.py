"""Interpolation over a grid of false accept rates, in which values repeat."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .repair import Repair, around_import, is_around_import, uses

MODULE = "eval.verification"


def repair(checkout: Path) -> Repair:
    """For SciPy >= 1.9, whose `interp1d(kind="slinear")` refuses repeated values of x.

    arcface_torch's `eval/verification.py` interpolates thresholds over false accept rates, which repeat, so every
    verification callback fails. The `interpolate` that this one module sees draws the same spline of degree 1 that
    SciPy 1.8 drew. It serves the true accept rate at a FAR; the accuracy does not pass through it.
    """

    def needed() -> bool:
        used = uses(checkout, "interp1d", "eval/verification.py")
        return used and not is_around_import(checkout, MODULE, _tolerant_interpolate) and _refuses_repeats()

    return Repair(
        "interp1d over repeated values",
        "eval/verification.py interpolates over repeated false accept rates, which SciPy >= 1.9 refuses",
        needed,
        lambda: around_import(checkout, MODULE, _tolerant_interpolate),
    )


def interp1d(x: np.ndarray, y: np.ndarray, kind: str = "slinear") -> Callable[[float], np.ndarray]:
    """SciPy 1.8's `interp1d` with kind "slinear", for x (n,) in any order and y (n,).

    Between two different neighbours it is the straight line; at a repeated x it is the last y of the run; at the
    largest x, when that repeats, it is 0 (the spline ends there). ValueError outside of x's range and for other kinds.
    """
    if kind != "slinear":
        raise ValueError(f"kind is {kind!r}: the repaired interp1d knows 'slinear' only, as arcface_torch uses it")
    from scipy.interpolate import BSpline

    order = np.argsort(x, kind="stable")
    knots, values = np.asarray(x, dtype=float)[order], np.asarray(y, dtype=float)[order]
    spline = BSpline.construct_fast(np.r_[knots[0], knots, knots[-1]], values, 1)

    def line(at: float) -> np.ndarray:
        if np.any(at < knots[0]) or np.any(at > knots[-1]):
            raise ValueError(f"{at} is outside of the interpolation's range, {knots[0]} to {knots[-1]}")
        return spline(at)

    return line


@contextmanager
def _tolerant_interpolate(module: Any) -> Iterator[None]:
    yield
    module.interpolate = SimpleNamespace(**{**vars(module.interpolate), "interp1d": interp1d})


def _refuses_repeats() -> bool:
    if importlib.util.find_spec("scipy") is None:
        return False
    from scipy import interpolate

    probe: Any = interpolate.interp1d
    try:
        probe([0.0, 0.0, 1.0], [0.0, 1.0, 2.0], kind="slinear")
    except ValueError:
        return True
    return False

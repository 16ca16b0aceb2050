"""Interpolation over repeated values, as SciPy 1.8 drew it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from compat_tools import importing_from, write_checkout

pytest.importorskip("scipy")

from qgface_plugin.arcface_torch.compat import interp1d as interp1d_module  # noqa: E402
from qgface_plugin.arcface_torch.compat.interp1d import interp1d  # noqa: E402

VERIFICATION = """
from scipy import interpolate

def threshold(far, thresholds, target):
    return interpolate.interp1d(far, thresholds, kind='slinear')(target)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path, {"eval/__init__": "", "eval/verification": VERIFICATION}).resolve()


def test_the_checkouts_module_interpolates_over_repeats(checkout: Path) -> None:
    from scipy import interpolate

    repair = interp1d_module.repair(checkout)
    with pytest.raises(ValueError, match="duplicates"):
        interpolate.interp1d([0.0, 0.0, 1.0], [0.0, 1.0, 2.0], kind="slinear")
    before = interpolate.interp1d
    with importing_from(checkout):
        assert repair.needed()
        repair.apply()
        assert not repair.needed()
        from eval import verification

        assert verification.threshold([0, 0, 0.5, 0.5, 1], [0, 1, 2, 3, 4], 0.25) == 1.5
        assert verification.interpolate.CubicSpline is interpolate.CubicSpline
    assert interpolate.interp1d is before


def test_no_repair_where_it_is_not_used(tmp_path: Path) -> None:
    assert not interp1d_module.repair(write_checkout(tmp_path, {"eval/verification": "x = 1\n"})).needed()


def test_no_repair_where_scipy_is_absent_or_draws_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy import interpolate

    repair = interp1d_module.repair(checkout)
    with monkeypatch.context() as older:
        older.setattr(interpolate, "interp1d", lambda *args, **options: None)
        assert not repair.needed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not repair.needed()


def test_without_repeats_it_is_scipys() -> None:
    from scipy import interpolate

    rng = np.random.default_rng(0)
    x, y = rng.permutation(np.linspace(0, 1, 30)), rng.normal(size=30)
    at = np.append(rng.random(50), [0.0, 1.0])
    np.testing.assert_allclose(interp1d(x, y)(at), interpolate.interp1d(x, y, kind="slinear")(at), rtol=0, atol=1e-12)


def test_between_runs_it_is_the_line_from_last_to_first_and_at_a_run_its_last() -> None:
    far = np.array([0, 0, 0.25, 0.25, 0.25, 0.75, 1.0])
    thresholds = np.arange(7) / 10
    line = interp1d(far, thresholds)
    left, right = {0.125: 1, 0.5: 4, 0.8: 5}, {0.125: 2, 0.5: 5, 0.8: 6}
    for at in left:
        share = (at - far[left[at]]) / (far[right[at]] - far[left[at]])
        expected = thresholds[left[at]] + share * (thresholds[right[at]] - thresholds[left[at]])
        assert line(at) == pytest.approx(expected, abs=1e-12)
    assert line(0.0) == pytest.approx(0.1) and line(0.25) == pytest.approx(0.4) and line(1.0) == pytest.approx(0.6)


def test_at_a_repeated_largest_value_the_spline_has_ended() -> None:
    assert interp1d([0.0, 1.0, 1.0], [3.0, 4.0, 5.0])(1.0) == 0.0


def test_outside_and_other_kinds_are_refused() -> None:
    line = interp1d([0.0, 1.0], [0.0, 1.0])
    for at in (-0.1, 1.1):
        with pytest.raises(ValueError, match="outside of the interpolation's range, 0.0 to 1.0"):
            line(at)
    with pytest.raises(ValueError, match="kind is 'cubic'"):
        interp1d([0.0, 1.0], [0.0, 1.0], kind="cubic")

"""Checks of the acceptance that others have written: the doctor, and the tests beside the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import util
from pathlib import Path

from ...arcface_torch.doctor import examine
from .check import Check, Found, Place, Skipped

ROOT = Path(__file__).resolve().parents[3]


def doctor(place: Place) -> Found:
    report = examine(None, None)
    devices = ", ".join(report.cuda) or "no GPU"
    good = report.can_train and bool(report.cuda or place.device.type == "cpu")
    return Found(good, f"{devices}; {'; '.join(report.problems) or 'no problem'}")


def loss_tests(place: Place) -> Found:
    several = ["-n", str(min(8, os.cpu_count() or 1)), "--dist", "loadfile"] if util.find_spec("xdist") else []
    chosen = ["tests/loss/test_functional.py"] if place.small else ["tests/loss"]
    return _pytest([*chosen, *several], {"CUDA_VISIBLE_DEVICES": ""})


def gpu_tests(place: Place) -> Found:
    found = _pytest(["-m", "gpu", "tests"], {})
    if "skipped" in found.said or "passed" not in found.said:
        found.good = False
    return found


def _pytest(arguments: Sequence[str], environ: dict[str, str]) -> Found:
    """What pytest says in its last line."""
    if not (ROOT / "tests" / "conftest.py").exists():
        raise Skipped("the package is installed without its tests: run it in a checkout")
    if not util.find_spec("pytest"):
        raise Skipped("pytest is not installed: pip install '.[test]'")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr[-300:]]
    bad = [text for text in lines if re.match(r"(FAILED|ERROR|SKIPPED)", text)]
    return Found(done.returncode == 0, lines[-1], {"not passed": bad})


CHECKS = [
    Check("doctor", "it can train, and sees the GPU", doctor, 60),
    Check("tests of the loss, GPU hidden", "all pass", loss_tests, 150),
    Check("tests for GPUs", "all pass, none is skipped", gpu_tests, 120),
]

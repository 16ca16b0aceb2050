"""Running of the acceptance's checks, each in a process of its own: a CUDA error spoils the process that it is in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .check import Check, Place, Skipped


def run_all(chosen: Sequence[Check], seconds: float, checkout: Path | None = None) -> dict[str, Any]:
    """Run them one after the other until the time is up, and print a line for each.

    Args:
        chosen: in this order.
        seconds: for all of them.
        checkout: of arcface_torch, for those that compare with it.

    Returns:
        `device`, `driver`'s CUDA and cuDNN, and `checks` by name: verdict (holds, fails, skipped), expected, found,
        seconds, figures.
    """
    until, found = time.monotonic() + seconds, {}
    for one in tqdm(chosen, desc="checks", leave=False, disable=None):
        left = until - time.monotonic()
        if left < 5:
            found[one.name] = {"verdict": "skipped", "expected": one.expected, "found": "the time is up"}
        else:
            found[one.name] = in_its_own_process(one, min(one.seconds, left), checkout)
        tqdm.write(line(one.name, found[one.name]), file=sys.stdout)
    return {**facts(), "checks": found}


def line(name: str, result: dict[str, Any]) -> str:
    """One check, for people."""
    return f"{result['verdict']:8} {name}: expected {result['expected']}; found {result['found']}"


def facts() -> dict[str, Any]:
    """Of the device and what drives it."""
    there = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if there else "none",
        "GPUs": torch.cuda.device_count(),
        "CUDA": torch.version.cuda or torch.version.hip or "none",
        "cuDNN": torch.backends.cudnn.version() if there else "none",
    }


def in_its_own_process(one: Check, seconds: float, checkout: Path | None) -> dict[str, Any]:
    """One check's result; of one that does not end, or whose process dies, that it fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="acceptance_") as folder:
        report, said = Path(folder) / "report.json", Path(folder) / "said.txt"
        command = [sys.executable, "-m", __package__, one.name, str(report), str(checkout or "")]
        with said.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                process.wait(seconds)
                ended = f"its process ended with status {process.returncode}"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # what it has started with it
                process.wait()
                ended = f"it was ended after {seconds:.0f} s"
        if report.exists():
            result: dict[str, Any] = json.loads(report.read_text())
        else:
            last = said.read_text(errors="replace").strip()[-1500:]
            result = {"verdict": "fails", "found": ended, "figures": {"last lines": last}}
    return {"expected": one.expected, **result, "seconds": round(time.monotonic() - began, 1)}


def look(one: Check, place: Place) -> dict[str, Any]:
    """One check's verdict, found and figures, whatever happens."""
    try:
        found = one.look(place)
    except Skipped as reason:
        return {"verdict": "skipped", "found": str(reason), "figures": {}}
    except Exception as error:  # any error at all is what this check has found
        return {"verdict": "fails", "found": f"{type(error).__name__}: {str(error)[:500]}", "figures": {}}
    return {"verdict": "holds" if found.good else "fails", "found": found.said, "figures": found.figures}

"""Rehearsals: checks on pretended CUDA, in a process of their own, since torch has to be imported after its guard.

A file of them ends in `sys.exit(main())`; run by itself it prints a line for each and exits with how many failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pretended_cuda
from pretended_cuda import BOOK, MixedDevices

CHECKS: dict[str, Callable[[Path], Any]] = {}


def rehearsal(name: str):
    """Register a check, which is given a folder to write to and returns what is worth saying."""

    def register(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
        assert name not in CHECKS, name
        CHECKS[name] = function
        return function

    return register


def waits_by_file() -> dict[str, int]:
    """Waits seen by "file operation", without lines, which every edit moves."""
    return dict(Counter(f"{where.partition(':')[0]} {what}" for what, where in BOOK.waits))


def expect_waits(expected: dict[str, int]) -> None:
    """Raise unless exactly these waits were seen, as `waits_by_file` names them."""
    if waits_by_file() != expected:
        raise AssertionError(f"waits at {BOOK.where_it_waits()}, expected {expected}")


def main() -> int:
    """Run the checks of this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="checks whose name contains this")
    parser.add_argument("--json", type=Path, help="what was found, by name")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    pretended_cuda.torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory(prefix="rehearsal_") as folder:
        for number, (name, check) in enumerate(CHECKS.items()):
            if given.only in name:
                own = Path(folder) / str(number)
                own.mkdir()
                found[name] = _run(name, check, own)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    return min(100, sum(one["verdict"] != "holds" for one in found.values()))


def _run(name: str, check: Callable[[Path], Any], folder: Path) -> dict[str, Any]:
    BOOK.clear()
    began = time.perf_counter()
    try:
        verdict, note = "holds", check(folder)
    except MixedDevices as error:
        verdict, note = "mixes devices", str(error)
    except Exception as error:
        verdict, note = "fails", f"{type(error).__name__}: {str(error)[:600]}"
        if os.environ.get("TRACE"):
            traceback.print_exc()
    seconds = round(time.perf_counter() - began, 2)
    print(f"{verdict:13} {name:50} {seconds:5.1f} s  {note or ''}", flush=True)
    return {"verdict": verdict, "note": note, "seconds": seconds}


if __name__ == "__main__":
    sys.exit("a file of rehearsals is what is run: tests/gpu/rehearse_*.py")

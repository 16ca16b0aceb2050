"""Running a script of an arcface_torch checkout with the repairs it needs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from ..utils.logs import early_log
from . import compat
from .known_trainer import checkout_of


def run_script(script: str | Path, arguments: list[str]) -> None:
    """Run a script as `python SCRIPT ARGUMENTS` does, after `compat.apply` to its checkout.

    Only repairs are made: without a line by `attach`, `train_v2.py` trains what it trains by itself.
    Changes `sys.argv` and `sys.path`, so it is the last thing that a process does. Raises ConfigError when the script
    is not in a checkout; what the script raises passes through.
    """
    script = Path(script)
    checkout = checkout_of(script)
    with early_log():
        compat.apply(checkout)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")

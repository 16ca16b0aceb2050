"""Acceptance of this project on a GPU: what only a GPU can show, each line with what was expected and what was found.

Checks follow each other, each in a process of its own, so that one which fails, or hangs, does not end the others; all
together take at most ten minutes on one GPU. Those of several ranks are skipped with fewer than two GPUs, and those of
the test suite where the package was installed without it. Exit status 1: a check does not hold; 3: there is no GPU, and
what would be run is listed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..utils.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(json=Path("acceptance.json"))
    parser.add_argument("--only", default="", metavar="TEXT", help="checks whose name contains this")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of them together [%(default)s]")
    parser.add_argument("--arcface-torch", type=Path, metavar="DIR", help="a checkout, for its own PartialFC_V2")


def without_device(arguments: argparse.Namespace) -> str | None:
    """What would be run, where there is no GPU; None where there is one."""
    import torch

    if torch.cuda.is_available():
        return None
    from ._acceptance import checks

    lines = ["torch sees no GPU here. On a machine with one this would be run, in this order:"]
    lines += [f"{number:3} {one.name}: {one.expected}" for number, one in enumerate(checks(), 1)]
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """A line for each check as it ends; all of them by name."""
    from ._acceptance import checks
    from ._acceptance.running import run_all

    chosen = [one for one in checks() if arguments.only in one.name]
    if not chosen or arguments.minutes <= 0:
        raise ConfigError("--only fits no check's name" if not chosen else "--minutes is above 0")
    return run_all(chosen, arguments.minutes * 60, arguments.arcface_torch)


def status(results: Mapping[str, Any]) -> int:
    """Exit status: 1 where a check does not hold."""
    return int(any(one["verdict"] == "fails" for one in results["checks"].values()))

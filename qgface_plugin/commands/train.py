"""Train a face encoder by a recipe, with the built-in loop or in an arcface_torch checkout.

torchrun --nproc_per_node=4 -m qgface_plugin train recipes/qgface_r34.py
qgface train recipes/quickstart.py
qgface train recipes/qgface_r34.py --resume --set lr=0.1 --set qgface.queue=momentum

A value is read as Python reads it, and is text where that cannot be. `--set` comes after DATA_ROOT and the recipe; the
settings that have come of it all are in the run's recipe.json.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..config.changes import parse_change
from ..launch import run_recipe
from ..utils.command_line import command_parser, guarded
from ..utils.errors import ConfigError


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: trained; 1: training could not go on; 2: the recipe, data or checkpoint does not fit; 143, 130 or
    129: SIGTERM, Ctrl-C or SIGHUP asked it to leave, and it has saved."""
    parser = command_parser("train", __doc__, front)
    parser.add_argument(
        "config", metavar="RECIPE", help="Python file with an EasyDict `config`, or a name that `qgface recipe` lists"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run was left: config.resume = True")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        type=_change,
        default=[],
        help="another value of any key of the recipe, with dots between groups: lr=0.1 qgface.data.source=folder",
    )
    # torch.distributed.launch gives the rank on its machine as an argument, where torchrun sets LOCAL_RANK
    parser.add_argument("--local-rank", "--local_rank", type=int, metavar="N", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(options.local_rank))

    def train() -> int:
        changes = dict(options.set)
        run_recipe(options.config, changes | ({"resume": True} if options.resume else {}))
        return 0

    return guarded(options.program, train)


def _change(text: str) -> tuple[str, Any]:
    try:
        return parse_change(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"{error}; RECIPE stands before --set") from error

"""Train a face encoder by a recipe, with the built-in loop or in an arcface_torch checkout.

torchrun --nproc_per_node=4 -m qgface_plugin train recipes/qgface_r34.py
qgface train recipes/quickstart.py
"""

from __future__ import annotations

import argparse
import os

from ..launch import run_recipe
from ..utils.command_line import command_parser, guarded


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: trained; 1: training could not go on; 2: the recipe, data or checkpoint does not fit; 143, 130 or
    129: SIGTERM, Ctrl-C or SIGHUP asked it to leave, and it has saved."""
    parser = command_parser("train", __doc__, front)
    parser.add_argument("config", metavar="RECIPE", help="Python file with an EasyDict `config`")
    # torch.distributed.launch gives the rank on its machine as an argument, where torchrun sets LOCAL_RANK
    parser.add_argument("--local-rank", "--local_rank", type=int, metavar="N", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(options.local_rank))

    def train() -> int:
        run_recipe(options.config)
        return 0

    return guarded(options.program, train)

"""Run a script of an arcface_torch checkout with the repairs that it needs of current packages.

qgface run eval_ijbc.py --network r50
torchrun --nproc_per_node=4 -m qgface_plugin run train_v2.py configs/ms1mv3_r50
"""

from __future__ import annotations

import argparse
import sys

from ..utils.command_line import command_parser, print_any_name
from ..utils.errors import ConfigError


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: it ran; 2: it is in no checkout. What the script raises passes through."""
    parser = command_parser("run", __doc__, front)
    parser.add_argument("script", metavar="SCRIPT", help="such as train_v2.py or eval_ijbc.py, in the checkout")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="the script's own arguments")
    given = parser.parse_args(arguments)
    from ..arcface_torch.run import run_script

    print_any_name()
    try:
        run_script(given.script, given.arguments)
    except ConfigError as error:
        print(f"{given.program}: {error}", file=sys.stderr)
        return 2
    return 0

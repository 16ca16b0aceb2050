"""Train a face encoder: the name and command line of arcface_torch's trainer, for QGFace's recipes.

torchrun --nproc_per_node=4 train_v2.py recipes/qgface_r34.py
python train_v2.py recipes/quickstart.py
"""

from __future__ import annotations

import argparse
import os
import sys

from qgface_plugin.launch import run_recipe
from qgface_plugin.utils.command_line import guarded


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: trained; 1: training could not go on; 2: the recipe, data or checkpoint does not fit; 143, 130 or
    129: SIGTERM, Ctrl-C or SIGHUP asked it to leave, and it has saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="RECIPE", help="Python file with an EasyDict `config`")
    # torch.distributed.launch gives the rank on its machine as an argument, where torchrun sets LOCAL_RANK
    parser.add_argument("--local-rank", "--local_rank", type=int, metavar="N", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(options.local_rank))

    def train() -> int:
        run_recipe(options.config)
        return 0

    return guarded("train_v2.py", train)


if __name__ == "__main__":
    sys.exit(main())

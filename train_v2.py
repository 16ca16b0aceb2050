"""Train a face encoder: the name and command line of arcface_torch's trainer, for QGFace's recipes.

torchrun --nproc_per_node=4 train_v2.py recipes/qgface_r34.py
python train_v2.py recipes/quickstart.py
"""

from __future__ import annotations

import argparse
import sys

from qgface_plugin.launch import run_recipe
from qgface_plugin.training.preemption import EXIT_STATUS
from qgface_plugin.utils.command_line import print_any_name
from qgface_plugin.utils.errors import CheckpointError, ConfigError, DataError, Stopped, TrainingError


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: trained; 1: training could not go on; 2: the recipe, data or checkpoint does not fit; 143: SIGTERM
    asked it to leave, and it has saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="RECIPE", help="Python file with an EasyDict `config`")
    recipe = parser.parse_args(arguments).config
    print_any_name()
    try:
        run_recipe(recipe)
    except (ConfigError, DataError, CheckpointError) as error:
        print(f"train_v2.py: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"train_v2.py: {error}", file=sys.stderr)
        return 1
    except Stopped as error:
        print(f"train_v2.py: {error}", file=sys.stderr)
        return EXIT_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`qgface merge-checkpoint` for those who work in a checkout: qgface_plugin/commands/merge_checkpoint.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import merge_checkpoint

main = partial(merge_checkpoint.main, front="tools/merge_checkpoint.py")

if __name__ == "__main__":
    sys.exit(main())

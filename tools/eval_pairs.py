"""`qgface eval-pairs` for those who work in a checkout: qgface_plugin/commands/eval_pairs.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import eval_pairs

main = partial(eval_pairs.main, front="tools/eval_pairs.py")

if __name__ == "__main__":
    sys.exit(main())

"""`qgface eval-tinyface` for those who work in a checkout: qgface_plugin/commands/eval_tinyface.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import eval_tinyface

main = partial(eval_tinyface.main, front="tools/eval_tinyface.py")

if __name__ == "__main__":
    sys.exit(main())

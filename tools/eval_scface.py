"""`qgface eval-scface` for those who work in a checkout: qgface_plugin/commands/eval_scface.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import eval_scface

main = partial(eval_scface.main, front="tools/eval_scface.py")

if __name__ == "__main__":
    sys.exit(main())

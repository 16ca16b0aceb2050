"""`qgface eval-ijb` for those who work in a checkout: qgface_plugin/commands/eval_ijb.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import eval_ijb

main = partial(eval_ijb.main, front="tools/eval_ijb.py")

if __name__ == "__main__":
    sys.exit(main())

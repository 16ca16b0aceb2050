"""`qgface plan-memory` for those who work in a checkout: qgface_plugin/commands/plan_memory.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import plan_memory

main = partial(plan_memory.main, front="tools/plan_memory.py")

if __name__ == "__main__":
    sys.exit(main())

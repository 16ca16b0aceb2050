"""`qgface inspect` for those who work in a checkout: qgface_plugin/commands/inspect.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import inspect

main = partial(inspect.main, front="tools/inspect_rec.py")

if __name__ == "__main__":
    sys.exit(main())

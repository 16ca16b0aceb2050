"""`qgface figures` for those who work in a checkout: qgface_plugin/commands/figures.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import figures

main = partial(figures.main, front="tools/figures.py")

if __name__ == "__main__":
    sys.exit(main())

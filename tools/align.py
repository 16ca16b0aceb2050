"""`qgface align` for those who work in a checkout: qgface_plugin/commands/align.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import align

main = partial(align.main, front="tools/align.py")

if __name__ == "__main__":
    sys.exit(main())

"""`qgface make-bin` for those who work in a checkout: qgface_plugin/commands/make_bin.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import make_bin

main = partial(make_bin.main, front="tools/make_bin.py")

if __name__ == "__main__":
    sys.exit(main())

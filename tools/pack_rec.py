"""`qgface pack` for those who work in a checkout: qgface_plugin/commands/pack.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import pack

main = partial(pack.main, front="tools/pack_rec.py")

if __name__ == "__main__":
    sys.exit(main())

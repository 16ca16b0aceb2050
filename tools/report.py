"""`qgface report` for those who work in a checkout: qgface_plugin/commands/report.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import report

main = partial(report.main, front="tools/report.py")

if __name__ == "__main__":
    sys.exit(main())

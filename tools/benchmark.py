"""`qgface benchmark` for those who work in a checkout: qgface_plugin/commands/benchmark.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import benchmark

main = partial(benchmark.main, front="tools/benchmark.py")

if __name__ == "__main__":
    sys.exit(main())

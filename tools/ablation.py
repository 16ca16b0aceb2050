"""`qgface ablation` for those who work in a checkout: qgface_plugin/commands/ablation.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import ablation

main = partial(ablation.main, front="tools/ablation.py")

if __name__ == "__main__":
    sys.exit(main())

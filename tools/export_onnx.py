"""`qgface export` for those who work in a checkout: qgface_plugin/commands/export.py has it."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import export

main = partial(export.main, front="tools/export_onnx.py")

if __name__ == "__main__":
    sys.exit(main())

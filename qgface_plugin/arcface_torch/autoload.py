"""The import that makes a checkout's train_v2.py train QGFace's recipes: `import qgface_plugin.arcface_torch.autoload`.

The one module of the package that does its work at import: it runs the file that imports it, and ends the program.
"""

from __future__ import annotations

import sys

from ..utils.command_line import guarded
from .run import autoload

_ran = False


def _run() -> int:
    global _ran
    _ran = autoload()
    return 0


if (_status := guarded("train_v2.py", _run)) or _ran:
    sys.exit(_status)

"""The import that makes a checkout's train_v2.py train QGFace's recipes: `import qgface_plugin.arcface_torch.autoload`.

The one module of the package that does its work at import. A message ends the program where something does not fit.
"""

from __future__ import annotations

import sys

from ..utils.errors import CheckpointError, ConfigError, DataError
from .run import autoload

try:
    autoload()
except (CheckpointError, ConfigError, DataError) as error:
    print(f"train_v2.py: {error}", file=sys.stderr)
    sys.exit(2)

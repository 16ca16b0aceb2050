"""Error file of torchrun: why a rank ended, where torchrun's own report looks for it.

Without it the report says "To enable traceback see ..." for every rank. What torchrun prints around its report, a
traceback of its own frames (ChildFailedError), no rank can keep it from printing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .files import shown, write_text

VARIABLE = "TORCHELASTIC_ERROR_FILE"


def note_reason(reason: str, environ: Mapping[str, str] = os.environ) -> None:
    """Write the reason into the file that torchrun has named for this rank; the first one stays.

    Nothing happens without torchrun, or where the file cannot be written: the reason is on standard error too.

    Args:
        reason: what the user is told.
        environ: the environment.
    """
    named = environ.get(VARIABLE)
    if not named or os.path.lexists(named):
        return
    reason = shown(reason)
    message = {"message": reason, "extraInfo": {"py_callstack": reason, "timestamp": str(int(time.time()))}}
    with suppress(OSError):
        write_text(Path(named), json.dumps({"message": message}))

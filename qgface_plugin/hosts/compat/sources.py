"""Looking into a checkout's sources, so that only what it uses is repaired."""

from __future__ import annotations

import re
from pathlib import Path


def uses(checkout: Path, pattern: str, files: str = "*.py */*.py") -> bool:
    """Whether a source file of the checkout matches a regular expression; files: globs with spaces between."""
    found = (path for glob in files.split() for path in checkout.glob(glob))
    return any(re.search(pattern, path.read_text(encoding="utf-8", errors="replace")) for path in found)

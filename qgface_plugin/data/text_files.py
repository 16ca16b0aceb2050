"""What readers of text files share: the whole text or a message, and numbers that are numbers."""

from __future__ import annotations

import math
from pathlib import Path

from qgface_plugin.errors import DataError


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, without a byte order mark; `what` it holds is for messages. Raises DataError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: the {what} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no {what}: not text in UTF-8 ({error.reason} at byte {error.start})") from error


def finite_number(text: str) -> float | None:
    """The number that a text is; None for other texts, inf and nan."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

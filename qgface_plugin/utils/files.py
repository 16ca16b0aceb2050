"""Files: text read whole or refused with a message, and writing that leaves the old file or the new one."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from .errors import DataError


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


def models_folder() -> Path:
    """insightface's own: ~/.insightface/models, a folder a pack."""
    return Path.home() / ".insightface" / "models"


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON, as `write_bytes` does."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, its folder too where there is none; it appears under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    os.replace(partial, path)

"""Listing of folders: what people have put there, without what systems, file servers and archives leave beside it.

Passed over are names that begin with a dot (`.DS_Store`, macOS's `._name` beside each name), and those of LEFT_BEHIND.
Every listing of a user's folder in this project is made here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .errors import DataError

LEFT_BEHIND = frozenset(
    # macOS's archives; Synology's thumbnails and bin; Windows; Linux's file systems
    {"__macosx", "@eadir", "#recycle", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"}
    | {"system volume information", "lost+found"}
)


def is_left_behind(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or left by a system: nobody's data.

    Example:
        >>> [is_left_behind(name) for name in ("anna", "._anna.jpg", "__MACOSX", "Thumbs.db")]
        [False, True, True, True]
    """
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def entries_in(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in the order of the names.

    Raises:
        DataError: the folder cannot be read; names it.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not is_left_behind(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror})") from error


def files_in(folder: str | Path, *suffixes: str) -> list[Path]:
    """The files of a folder whose names end in one of the suffixes, in upper or lower case, in the order of the names.

    A folder that is not there has none. A link that leads nowhere is among them, so that whoever opens it says so.

    Args:
        folder: to be listed; not what is below it.
        suffixes: such as ".onnx", in lower case.

    Raises:
        DataError: the folder cannot be read; names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return [
        folder / entry.name
        for entry in entries_in(folder)
        if entry.name.lower().endswith(suffixes) and not entry.is_dir()
    ]


def walk(folder: str | Path) -> Iterator[Path]:
    """Every file under a folder at any depth, relative to it, in no order. Links are followed."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_left_behind(name)]
        for name in names:
            if not is_left_behind(name):
                yield Path(parent, name).relative_to(folder)


def unpacked(folder: str | Path, *suffixes: str) -> Path:
    """The folder that holds the files: `folder`, or the one of the same name in it, where only that one has any.

    Archives are often unpacked so: buffalo_l/buffalo_l/w600k_r50.onnx.

    Args:
        folder: as the user names it.
        suffixes: of the files that are looked for, as `files_in` has them.

    Raises:
        DataError: a folder cannot be read; names it.
    """
    folder = Path(folder)
    inner = folder / folder.absolute().name
    return inner if not files_in(folder, *suffixes) and files_in(inner, *suffixes) else folder

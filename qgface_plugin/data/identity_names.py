"""Names of identities: `identities.tsv` beside a record file, `label TAB name` per line, as packing writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..utils.errors import DataError
from ..utils.text import read_lines

IDENTITIES = "identities.tsv"


def read_identity_names(path: Path) -> dict[int, str]:
    """Label -> name. Bytes of a name that are no UTF-8 are surrogates, as in names of files.

    Raises:
        DataError: unreadable, or a line that is not a label, a tab and a name; names file and line.
    """
    names: dict[int, str] = {}
    for number, line in read_lines(path, "names of identities"):
        label, tab, name = line.partition("\t")
        if not (tab and label.isascii() and label.isdecimal() and len(label) < 10):
            raise DataError(f"{path} line {number}: {line[:80]!r} is not a label, a tab and a name")
        names[int(label)] = name
    return names


def shared_identity_names(folders: Iterable[Path]) -> dict[int, str]:
    """Label -> name by the files of several folders; a folder without one says nothing.

    Raises:
        DataError: a file that cannot be read, or two that name one label differently.
    """
    known: dict[int, tuple[str, Path]] = {}
    for path in dict.fromkeys(folder / IDENTITIES for folder in folders):
        if not path.exists():
            continue
        for label, name in read_identity_names(path).items():
            before, where = known.setdefault(label, (name, path))
            if before != name:
                raise DataError(
                    f"label {label} is {before!r} in {where} and {name!r} in {path}: these sources have not one label "
                    "space, so different people would become one identity. If no person is in both, set "
                    "config.qgface.data.label_spaces = 'separate'; else pack their images together (`pack` takes "
                    "several folders)"
                )
    return {label: name for label, (name, _) in known.items()}

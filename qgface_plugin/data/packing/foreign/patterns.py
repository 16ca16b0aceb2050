"""Names of many files in one: braces as shells and WebDataset have them, lists of names, folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ....utils.errors import DataError
from ....utils.listing import files_in
from ....utils.text import meant_path, read_lines

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
MOST = 1_000_000  # files of one pattern


def expand(pattern: str) -> list[str]:
    """The names that braces stand for: a range keeps its zeros, and commas separate alternatives.

    Raises:
        DataError: a range that runs backwards, or more than MOST names.

    Example:
        >>> expand("faces-{08..10}.tar"), expand("{a,b}{0..1}")
        (['faces-08.tar', 'faces-09.tar', 'faces-10.tar'], ['a0', 'a1', 'b0', 'b1'])
    """
    names = [pattern]
    while found := _BRACES.search(names[0]):
        choices = list(_choices(found[1], pattern))
        if len(choices) * len(names) > MOST:
            raise DataError(f"{pattern!r} names more than {MOST} files")
        # every name has the same braces at its first place, its own text before them
        parts = [(name[: at.start()], name[at.end() :]) for name in names if (at := _BRACES.search(name))]
        names = [before + choice + after for before, after in parts for choice in choices]
    return names


def _choices(inside: str, pattern: str) -> Iterator[str]:
    if found := _RANGE.fullmatch(inside):
        first, last = int(found[1]), int(found[2])
        if first > last:
            raise DataError(f"{pattern!r}: the range {inside} runs backwards")
        if last - first >= MOST:
            raise DataError(f"{pattern!r} names more than {MOST} files")
        width = len(found[1]) if found[1].startswith("0") else 0
        yield from (str(number).zfill(width) for number in range(first, last + 1))
    else:
        yield from inside.split(",")


def named_files(sources: Sequence[str | Path], *suffixes: str) -> list[Path]:
    """The files that names, patterns with braces, `.txt` lists of names and folders stand for, in their order.

    Args:
        sources: names in a list are relative to the list's folder.
        suffixes: of the files that are taken from a folder.

    Raises:
        DataError: one that is not there, or named twice, or a folder or list without any.
    """
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = files_in(path, *suffixes)
            if not inside:
                raise DataError(f"{path}: no {' or '.join(suffixes)} file in this folder")
            files += inside
        elif path.suffix == ".txt":
            lines = [line.strip() for _, line in read_lines(path, "list of files") if line.strip()]
            if not lines:
                raise DataError(f"{path}: the list is empty")
            files += [path.parent / meant_path(path.parent, name) for line in lines for name in expand(line)]
        elif path.exists():
            files.append(path)
        else:
            files += [Path(name) for name in expand(str(source))]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: no such file")
    if len({file.resolve() for file in files}) < len(files):
        twice = next(file for file in files if [other.resolve() for other in files].count(file.resolve()) > 1)
        raise DataError(f"{twice} is named twice: name each file once")
    return files

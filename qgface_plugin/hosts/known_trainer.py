"""Telling arcface_torch's `train_v2.py` from other files."""

from __future__ import annotations

import ast
from pathlib import Path

from ..utils.errors import ConfigError

TRAINER = "train_v2.py"
EXPECTED = ("PartialFC_V2", "get_dataloader")  # what every version of it imports, and the seams replace


def trainer_of(folder: Path) -> Path:
    """The `train_v2.py` of an arcface_torch checkout.

    Raises ConfigError for anything else: no such folder, no such file, one that is no Python, or one that does not
    import what arcface_torch's does.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name the folder recognition/arcface_torch of InsightFace")
    file = folder / TRAINER
    if not file.is_file():
        raise ConfigError(
            f"{folder}: no {TRAINER} in it; name the folder recognition/arcface_torch of an InsightFace checkout"
        )
    missing = [name for name in EXPECTED if name not in _imported(parse(file, file.read_bytes()))]
    if missing:
        raise ConfigError(f"{file}: not arcface_torch's {TRAINER}: it does not import {' and '.join(missing)}")
    return file


def checkout_of(script: Path) -> Path:
    """The checkout that a script belongs to: the nearest folder above it with arcface_torch's `train_v2.py`.

    Raises ConfigError when the script or such a folder is not there.
    """
    if not script.is_file():
        raise ConfigError(f"{script}: no such script")
    for folder in script.resolve().parents:
        if (folder / TRAINER).is_file():
            return trainer_of(folder).parent
    raise ConfigError(f"{script}: not in an arcface_torch checkout: no folder above it has a {TRAINER}")


def parse(file: Path, source: bytes) -> ast.Module:
    """The syntax tree of a Python file; ConfigError names the file and the line where it is none."""
    try:
        return ast.parse(source, str(file))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{file}: not valid Python ({error})") from error


def _imported(tree: ast.Module) -> set[str]:
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imports for alias in node.names}

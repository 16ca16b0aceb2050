"""TinyFace's .mat files: a cell array of file names and an array of identities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...data.sources.folder import SUFFIXES
from ...utils.errors import ConfigError, DataError
from .counts import Inventory, listed


def read_identities(path: Path, names_key: str, ids_key: str, inventory: Inventory) -> dict[str, int]:
    """File name without suffix -> identity, in the file's order.

    A name that is there twice with one identity, and one that begins with another identity than its own, is noted in
    `inventory`. Raises DataError: damaged, other variables, or a name with two identities; ConfigError without SciPy.
    """
    names, ids = _load(path, names_key, ids_key)
    identities: dict[str, int] = {}
    repeated = []
    for name, identity in zip(names, ids, strict=True):
        if name in identities:
            repeated.append(name)
        if identities.setdefault(name, identity) != identity:
            raise DataError(f"{path}: {name} has two identities, {identities[name]} and {identity}")
    inventory.name(f"{path.name} repeated", repeated, f"{{}} names are repeated in {path.name} and count once")
    contrary = [name for name, who in identities.items() if name.split("_")[0] != str(who)]
    inventory.name(
        f"{path.name} contrary",
        contrary,
        f"{{}} names begin with another identity than {path.name} gives, which counts",
    )
    return identities


def _load(path: Path, names_key: str, ids_key: str) -> tuple[list[str], list[int]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ConfigError("TinyFace's .mat files need scipy: pip install 'qgface-plugin[eval]'") from error
    try:
        content = loadmat(path, variable_names=(names_key, ids_key))
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise DataError(f"{path}: the .mat file cannot be read ({type(error).__name__}: {error})") from error
    absent = [key for key in (names_key, ids_key) if key not in content]
    if absent:
        raise DataError(f"{path}: no variable {listed(absent)} in it; TinyFace's file holds {names_key} and {ids_key}")
    names = [_stem(name) for name in _strings(content[names_key], path)]
    ids = np.asarray(content[ids_key]).ravel()
    if ids.dtype.kind not in "iuf" or not np.array_equal(ids, np.floor(ids)) or np.any(ids < 0):
        raise DataError(f"{path}: {ids_key} ({ids.dtype}) are not all identities, which are numbers from 0")
    if not names or len(names) != len(ids):
        raise DataError(f"{path}: {len(names)} names for {len(ids)} identities; there is one identity a name")
    return names, [int(identity) for identity in ids]


def _strings(cells: np.ndarray, path: Path) -> Iterator[str]:
    """The strings of a cell array, however deeply its cells are nested."""
    if not isinstance(cells, np.ndarray) or cells.dtype.kind not in "UO":
        raise DataError(f"{path}: its names are {getattr(cells, 'dtype', type(cells).__name__)}, not text")
    for cell in cells.ravel():
        if isinstance(cell, str):
            yield cell.strip()
        else:
            yield from _strings(cell, path)


def _stem(name: str) -> str:
    path = Path(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name

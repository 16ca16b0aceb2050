"""Files of embeddings: NumPy's .npz, .parquet or .csv, one row per photograph.

`path`, `faces` (found in it), `norm` (of the raw feature: its quality), `quality` (percent of a calibration's reference
with a lower norm, where there is a calibration) and the embedding of unit length. In .npz they are the arrays `paths`,
`faces`, `norms`, `quality`, `embeddings`, and `settings` is JSON that says how they were made; a .parquet file has
`settings` in its metadata, a .csv file has the embedding as columns e0, e1, ...
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from ..models.photographs import PhotoEmbeddings
from ..utils.errors import ConfigError, DataError
from ..utils.files import atomic_path, atomic_write, shown
from ..utils.outputs import Kind, text_with

FORMATS = ("npz", "parquet", "csv")
SETTINGS = "qgface_embeddings"  # key of the metadata of a .parquet file
ARRAYS = ("paths", "embeddings", "norms", "faces")


def _is_npz(path: Path) -> bool:
    with ZipFile(path) as archive:
        return {f"{name}.npy" for name in (*ARRAYS, "settings")} <= set(archive.namelist())


def _is_parquet(path: Path) -> bool:
    content = path.read_bytes()
    return content[:4] == b"PAR1" and SETTINGS.encode() in content


KINDS = {
    "npz": Kind("file of embeddings", (".npz",), _is_npz),
    "parquet": Kind("file of embeddings", (".parquet",), _is_parquet),
    "csv": text_with(["path,faces,norm,"], (".csv",), "file of embeddings"),
}


def format_of(output: str | Path, given: str | None = None) -> str:
    """The format of a file to write: by `--format`, else by its suffix.

    Raises:
        ConfigError: neither says; they do not fit; what Parquet needs is not installed.

    Example:
        >>> format_of("faces.npz")
        'npz'
    """
    suffix = Path(output).suffix.lower().removeprefix(".")
    if suffix not in FORMATS or given not in (None, suffix):
        raise ConfigError(
            f"{output}: the name ends in .{given}" if given else f"{output}: the name ends in .npz, .parquet or .csv"
        )
    if suffix == "parquet":
        _pyarrow()
    return suffix


def write_embeddings(path: str | Path, found: PhotoEmbeddings, settings: Mapping[str, Any]) -> None:
    """Write a file of embeddings, whole or not at all, in the format that its suffix says.

    Args:
        path: the file, ending in .npz, .parquet or .csv.
        found: N embeddings.
        settings: how they were made; plain numbers, strings and dicts.
    """
    {"npz": _write_npz, "parquet": _write_parquet, "csv": _write_csv}[format_of(path)](Path(path), found, settings)


def read_embeddings(path: str | Path) -> tuple[PhotoEmbeddings, dict[str, Any]]:
    """The embeddings and the settings of an .npz file that `write_embeddings` has written.

    Raises:
        DataError: unreadable, or no file of embeddings.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            paths, embeddings, norms, faces = (arrays[name] for name in ARRAYS)
            quality = arrays["quality"] if "quality" in arrays else None
            settings = json.loads(str(arrays["settings"]))
    except (OSError, BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"{path}: no .npz file of embeddings ({error})") from error
    return PhotoEmbeddings(tuple(paths.tolist()), embeddings, norms, faces, {}, quality), settings


def _write_npz(path: Path, found: PhotoEmbeddings, settings: Mapping[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "paths": np.array(found.paths, dtype=np.str_),
        "embeddings": found.embeddings,
        "norms": found.norms,
    }
    arrays |= {"faces": found.faces, "settings": np.array(json.dumps(settings))}
    if found.quality is not None:
        arrays["quality"] = found.quality
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def _write_csv(path: Path, found: PhotoEmbeddings, settings: Mapping[str, Any]) -> None:
    columns = [f"e{number}" for number in range(found.embeddings.shape[1])]
    extra = [] if found.quality is None else ["quality"]
    with atomic_write(path, "w", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "faces", "norm", *extra, *columns])
        for row, name in enumerate(found.paths):
            quality = [] if found.quality is None else [f"{found.quality[row]:.2f}"]
            numbers = [f"{value:.9g}" for value in found.embeddings[row]]  # nine digits give float32 back
            writer.writerow([name, int(found.faces[row]), f"{found.norms[row]:.9g}", *quality, *numbers])


def _write_parquet(path: Path, found: PhotoEmbeddings, settings: Mapping[str, Any]) -> None:
    arrow, parquet = _pyarrow()
    dim = found.embeddings.shape[1]
    flat = arrow.array(np.ascontiguousarray(found.embeddings).ravel(), arrow.float32())
    columns = {
        "path": arrow.array([shown(name) for name in found.paths], arrow.string()),
        "faces": arrow.array(found.faces, arrow.int64()),
        "norm": arrow.array(found.norms, arrow.float32()),
        "embedding": arrow.FixedSizeListArray.from_arrays(flat, dim),
    }
    if found.quality is not None:
        columns["quality"] = arrow.array(found.quality, arrow.float64())
    table = arrow.table(columns).replace_schema_metadata({SETTINGS: json.dumps(settings)})
    with atomic_path(path) as temporary:
        parquet.write_table(table, str(temporary))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("writing .parquet needs pyarrow: pip install pyarrow; or write .npz") from error
    return pyarrow, pyarrow.parquet

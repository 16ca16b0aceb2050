"""Faces of Parquet files, as image data sets of Hugging Face are: a column of images, a column of labels.

An image is a binary, or a struct with its bytes and its path. Rows are read once, group by group; their images go into
a file without a name, because packing reads them identity by identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ....utils.errors import ConfigError, DataError
from ..faces import Face, FaceList
from ..stored import Spool
from .labels import NAMES, identity_of
from .patterns import named_files

IMAGES = ("image", "img", "jpg", "face", "picture", "photo")
SPLITS = ("train", "test", "validation", "val", "dev")
ROWS = 256  # at a time


def parquet_faces(
    sources: Sequence[str | Path],
    spool: str | Path,
    image_key: str | None = None,
    label_key: str | None = None,
    progress: bool = False,
) -> FaceList:
    """The faces of Parquet files, which together are one set: one label is one identity in all of them.

    Args:
        sources: files, patterns, `.txt` lists of files, folders.
        spool: folder with room for all images.
        image_key: column of the images; None: the first of IMAGES that is there, or the only one with images.
        label_key: column of the labels; None: the first of `labels.NAMES` that is there.
        progress: show a progress bar.

    Raises:
        ConfigError: the package pyarrow is not installed.
        DataError: a file that is damaged, columns that are not there, a row without a label, or several splits in a
            folder.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ConfigError("--from-parquet needs the package pyarrow: pip install pyarrow") from error
    files = named_files(sources, ".parquet")
    _refuse_splits(files, sources)
    found = FaceList([])
    with tqdm(desc="reading", unit="image", disable=not progress) as bar:
        for file in files:
            try:
                with ParquetFile(file) as table:
                    bar.total = (bar.total or 0) + table.metadata.num_rows
                    names = table.schema_arrow.names
                    image = _image_column(file, table.schema_arrow, image_key)
                    columns = image, _column(file, names, label_key, NAMES, "label")
                    _read(found, file, table, Spool(file, spool), columns, bar)
            except (ArrowException, OSError, ValueError, MemoryError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(f"{file}: no Parquet file that can be read ({error})") from error
    if not found.faces:
        raise DataError(f"{files[0]}: no image in {len(files)} file(s)")
    return found


def _read(found: FaceList, file: Path, table: Any, store: Spool, columns: tuple[str, str], bar: tqdm) -> None:
    (image_key, label_key), row = columns, 0
    for batch in table.iter_batches(ROWS, columns=[image_key, label_key]):
        labels = batch.column(label_key).to_pylist()
        for image, label in zip(batch.column(image_key), labels, strict=True):
            where = f"{file} row {row}"
            encoded = image.as_py()
            path = encoded.get("path") if isinstance(encoded, dict) else None
            encoded = encoded.get("bytes") if isinstance(encoded, dict) else encoded
            if isinstance(encoded, bytes):
                name = f"{file.stem}/{path or row}".replace("\n", " ").replace("\t", " ").replace("\r", " ")
                identity = (0, identity_of(label, f"{where}, column {label_key}"))
                found.faces.append(Face(where, name, identity, store=store, at=store.keep(encoded)))
            else:
                lies = f"the path {path!r} and no bytes" if path else "nothing"
                found.problems.append((where, f"column {image_key} has {lies} there"))
            row += 1
        bar.update(len(labels))


def _image_column(file: Path, schema: Any, wanted: str | None) -> str:
    from pyarrow import types

    def holds_images(kind: Any) -> bool:
        inside = kind.field("bytes").type if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        return types.is_binary(inside) or types.is_large_binary(inside)

    fitting = [field.name for field in schema if holds_images(field.type)]
    if wanted is None and len(fitting) == 1:
        return fitting[0]
    return _column(file, fitting, wanted, IMAGES, "image")


def _column(file: Path, there: Sequence[str], wanted: str | None, usual: Sequence[str], what: str) -> str:
    column = wanted or next((name for name in usual if name in there), None)
    if column is None or column not in there:
        asked = repr(wanted) if wanted else f"none of {', '.join(usual)}"
        among = ", ".join(there) or "no column that could be one"
        raise DataError(f"{file}: {asked} for the {what} among {among}: name the column with --{what}-key")
    return column


def _refuse_splits(files: list[Path], sources: Sequence[str | Path]) -> None:
    """A folder of Hugging Face's holds the pictures to test with too."""
    splits = {file.name.split("-")[0] for file in files} & set(SPLITS)
    if len(splits) > 1 and any(Path(source).is_dir() for source in sources):
        raise DataError(
            f"{sources[0]}: the splits {', '.join(sorted(splits))} lie in it; name the files of one, such as "
            f"'{Path(sources[0]) / sorted(splits)[-1]}-*.parquet'"
        )

"""Faces of LMDB files in the layout that face_analysis_pytorch and its descendants write, as the HSFace sets have it.

A key, b"0", b"1", ..., has a msgpack of (encoded image, label), or of (image, features, label, ...). `__keys__` lists
the keys, `__len__` counts them, `__classnum__` counts the identities; some writers give the largest label there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ....utils.errors import ConfigError, DataError
from ...recordio.labels import LABEL_LIMIT
from ..faces import Face, FaceList, refuse_shared_names
from .lmdb_pages import Item, LmdbFile

LOGGER = logging.getLogger(__name__)
ABOUT = (b"__keys__", b"__len__", b"__classnum__")
LONGEST = 1 << 29  # bytes of a value


def lmdb_faces(paths: Sequence[str | Path], same_names: str = "error", progress: bool = False) -> FaceList:
    """The faces of LMDB files, in the order of `__keys__`; the identity of a label is its number.

    Args:
        paths: files, or folders with a `data.mdb`.
        same_names: what a label in two files means, as `list_faces` has it.
        progress: show a progress bar.

    Raises:
        ConfigError: the package msgpack is not installed.
        DataError: a file that is cut short or damaged, or has another layout; a label in two files under "error".
    """
    found, files = FaceList([]), [LmdbFile(path) for path in paths]
    with tqdm(total=sum(file.entries for file in files), desc="reading", unit="image", disable=not progress) as bar:
        for number, file in enumerate(files):
            found.faces.extend(_faces_of(file, 0 if same_names == "merge" else number, bar))
    if same_names == "error":
        refuse_shared_names(found.faces, [file.path for file in files])
    return found


def _faces_of(file: LmdbFile, number: int, bar: tqdm) -> list[Face]:
    about: dict[bytes, Any] = {}
    places: dict[bytes, tuple[tuple[int, int], int]] = {}
    for item in file.items():
        bar.update()
        if item.key in ABOUT:
            about[item.key] = _unpacked(file, item)
        else:
            places[item.key] = _image_and_label(file, item)
    keys = _keys(file, about, places)
    announced, labels = about.get(b"__classnum__"), {places[key][1] for key in keys}
    if isinstance(announced, int) and announced not in (len(labels), max(labels), max(labels) + 1):
        LOGGER.warning("%s: %d identities by its own word, and %d in it", file.path, announced, len(labels))
    faces = []
    for key in keys:
        at, label = places[key]
        shown = key.decode("utf-8", "backslashreplace")
        name = f"{file.path.stem}/{shown}".replace("\t", " ").replace("\n", " ").replace("\r", " ")
        faces.append(Face(f"{file.path} key {shown}", name, (number, str(label)), store=file.store, at=at))
    return faces


def _keys(file: LmdbFile, about: dict[bytes, Any], places: dict[bytes, Any]) -> list[bytes]:
    """The keys that the file lists, all of which are there; where it lists none, those that are there."""
    listed = about.get(b"__keys__", sorted(places, key=lambda key: (len(key), key)))
    if not isinstance(listed, list) or not all(isinstance(key, bytes) for key in listed):
        raise DataError(f"{file.path}: __keys__ is no list of keys")
    if not listed:
        raise DataError(f"{file.path}: no image in it")
    missing = [key for key in listed if key not in places]
    if missing or len(set(listed)) < len(listed):
        raise DataError(
            f"{file.path}: __keys__ lists {len(missing)} keys that are not there, the first {missing[:1]}, and "
            f"{len(listed) - len(set(listed))} twice: damaged, or not written to its end"
        )
    count = about.get(b"__len__", len(listed))
    if count != len(listed):
        raise DataError(f"{file.path}: __len__ is {count!r}, and __keys__ lists {len(listed)} keys")
    return listed


def _image_and_label(file: LmdbFile, item: Item) -> tuple[tuple[int, int], int]:
    """Where the image lies in the file, and its label."""
    where, value = f"{file.path} key {item.key[:40]!r}", _unpacked(file, item)
    if not isinstance(value, list) or len(value) < 2 or not isinstance(value[0], bytes):
        raise DataError(f"{where}: not a msgpack of (encoded image, label)")
    label = next((part for part in value[1:3] if type(part) is int), None)
    if label is None or not 0 <= label < LABEL_LIMIT:
        raise DataError(f"{where}: label {label!r} is not a whole number in [0, {LABEL_LIMIT})")
    head = file.store.read((item.offset, 2))  # a list of up to 15 parts, and of which kind the first one's length is
    begin = 1 + {0xC4: 2, 0xD9: 2, 0xC5: 3, 0xDA: 3, 0xC6: 5, 0xDB: 5}.get(head[1], 1)
    if head[0] & 0xF0 != 0x90:
        raise DataError(f"{where}: a msgpack of {len(value)} parts, not of (encoded image, label)")
    return (item.offset + begin, len(value[0])), label


def _unpacked(file: LmdbFile, item: Item) -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise ConfigError("--from-lmdb needs the package msgpack: pip install msgpack") from error
    where = f"{file.path} key {item.key[:40]!r}"
    if item.size > LONGEST:
        raise DataError(f"{where}: {item.size} bytes are no image")
    data = file.store.read((item.offset, item.size))
    try:
        return msgpack.unpackb(data, raw=True)  # older writers have bytes as text
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        if data[:4] == bytes(4):
            raise DataError(
                f"{where}: written by pyarrow.serialize, which pyarrow has given up: read it with the program that "
                "wrote it and the pyarrow of then, and write msgpack, or image files"
            ) from error
        raise DataError(f"{where}: no msgpack ({type(error).__name__}: {error})") from error

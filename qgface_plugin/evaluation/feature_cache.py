"""Cache of features on disk: computed in chunks by any number of ranks, resumable, read without a copy.

A cache lies in a folder named after its key, which says what the features were made of: another model or other images
have another key, hence another folder, and never meet old features. While it is being filled it holds one file per
chunk; then `original.npy` and `mirrored.npy`, (N, d) float32 each, which are mapped into memory when they are read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from ..models.embeddings import Embeddings
from ..utils.errors import DataError
from ..utils.files import atomic_path, atomic_write, leftovers, write_json
from ..utils.text import parse_json, read_json, whole_number

COMPLETE = "complete.json"
SIDES = ("original", "mirrored")
ROWS = 8192  # features that are looked at at a time
LONGEST_HEADER = 256  # bytes of a .npy file before its numbers
# The beginnings of .npy files as NumPy writes them for a float32 matrix and for one string; no other is read.
_BEGIN, _SHAPE = rb"\x93NUMPY\x01\x00(..)\{'descr': ", rb", 'fortran_order': False, 'shape': "
_MATRIX = re.compile(_BEGIN + rb"'<f4'" + _SHAPE + rb"\(([1-9]\d{0,11}), ([1-9]\d{0,5})\), \} *\n", re.S)
_STRING = re.compile(_BEGIN + rb"'<U(\d{1,9})'" + _SHAPE + rb"\(\), \} *\n", re.S)


class FeatureCache:
    """The features of `count` images, `chunk` images per file.

    Args:
        folder: where caches lie.
        name: begins the sub-folder's name.
        key: what the features depend on, plain strings.
        count: number of images.
        chunk: images that an interruption can cost.

    Example:
        >>> import tempfile
        >>> cache = FeatureCache(Path(tempfile.mkdtemp()), "faces", {"model": "a"}, count=3, chunk=2)
        >>> cache.missing()
        [0, 1]
        >>> for chunk in cache.missing():
        ...     begin, end = cache.bounds(chunk)
        ...     side = np.full((end - begin, 4), chunk, np.float32)
        ...     cache.write(chunk, Embeddings(side, side), bad={})
        >>> cache.finish()
        >>> cache.load()[0].original[:, 0].tolist()
        [0.0, 0.0, 1.0]
    """

    def __init__(self, folder: Path, name: str, key: Mapping[str, str], count: int, chunk: int = 2048) -> None:
        self.key, self.count, self.chunk = {**key, "images": str(count), "chunk": str(chunk)}, count, chunk
        text = json.dumps(self.key, sort_keys=True)
        self.folder = Path(folder) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def complete(self) -> bool:
        """Whether the features of all images are there."""
        return (self.folder / COMPLETE).is_file()

    @property
    def chunks(self) -> int:
        """Number of chunks, the last one maybe shorter."""
        return -(-self.count // self.chunk)

    def bounds(self, chunk: int) -> tuple[int, int]:
        """First image of a chunk, and the one after its last."""
        return chunk * self.chunk, min((chunk + 1) * self.chunk, self.count)

    def missing(self) -> list[int]:
        """The chunks that are still to be computed."""
        if self.complete:
            return []
        return [chunk for chunk in range(self.chunks) if not self._chunk_file(chunk).is_file()]

    def write(self, chunk: int, embeddings: Embeddings, bad: Mapping[int, str]) -> None:
        """Keep one chunk, whole or not at all.

        Args:
            chunk: its number.
            embeddings: of its images, in their order.
            bad: images of it that have no feature, and why, by their number in the whole.
        """
        reasons = np.array(json.dumps({str(index): reason for index, reason in bad.items()}))
        with atomic_write(self._chunk_file(chunk)) as file:
            np.savez(file, original=embeddings.original, mirrored=embeddings.mirrored, bad=reasons)

    def finish(self) -> None:
        """Join the chunks.

        Raises:
            DataError: a chunk is absent or damaged; names it.
        """
        if self.complete:
            return
        bad: dict[str, str] = {}
        with ExitStack() as files:
            joined: dict[str, np.memmap] = {}
            for chunk in range(self.chunks):
                begin, end = self.bounds(chunk)
                embeddings, reasons = self._read(chunk)
                bad |= {str(index): reason for index, reason in reasons.items()}
                for side, part in zip(SIDES, (embeddings.original, embeddings.mirrored), strict=True):
                    if side not in joined:
                        temporary = files.enter_context(atomic_path(self.folder / f"{side}.npy"))
                        shape = (self.count, part.shape[1])
                        joined[side] = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
                    if part.shape[1] != joined[side].shape[1]:
                        raise DataError(
                            f"{self._chunk_file(chunk)}: features of {part.shape[1]} numbers, those before it have "
                            f"{joined[side].shape[1]}; remove it and run again"
                        )
                    joined[side][begin:end] = part
            for side in list(joined):
                joined.pop(side).flush()
        write_json(self.folder / COMPLETE, {"key": self.key, "bad": bad})
        for chunk in range(self.chunks):
            self._chunk_file(chunk).unlink()
        for killed, _ in leftovers(self.folder):
            killed.unlink(missing_ok=True)

    def load(self) -> tuple[Embeddings, dict[int, str]]:
        """Features of all images, mapped (writing to them changes no file), and the bad images with what is wrong.

        Raises:
            DataError: the cache is incomplete or damaged.
        """
        if not self.complete:
            raise DataError(f"{self.folder}: not a complete cache of features: remove the folder")
        said = read_json(self.folder / COMPLETE, "cache of features")
        if not isinstance(said, dict) or said.get("key") != self.key:
            raise DataError(f"{self.folder / COMPLETE}: of other features than {self.key}: remove the folder")
        bad = self._reasons(said.get("bad"), self.folder / COMPLETE)
        original, mirrored = (self._map(self.folder / f"{side}.npy") for side in SIDES)
        if original.shape != mirrored.shape:
            raise DataError(f"{self.folder}: features {original.shape} and {mirrored.shape}: remove the folder")
        return Embeddings(original, mirrored), bad

    def _map(self, path: Path) -> np.ndarray:
        """The array of a file, mapped; DataError unless it is what `finish` writes, all of it finite."""
        try:
            with open(path, "rb") as file:
                shape, start = _matrix(file.read(LONGEST_HEADER), path)
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: the features cannot be read ({error.strerror}): remove the folder") from error
        if shape[0] != self.count or size != start + 4 * shape[0] * shape[1]:
            raise DataError(f"{path}: {size} bytes, features {shape}, not of {self.count} images: remove the folder")
        features = np.asarray(np.memmap(path, dtype="<f4", mode="c", offset=start, shape=shape))
        for row in range(0, len(features), ROWS):
            _check_finite(features[row : row + ROWS], row, path)
        return features

    def _reasons(self, bad: object, path: Path) -> dict[int, str]:
        """Why images have no feature, by their number; DataError for anything else."""
        found: dict[int, str] = {}
        for index, reason in bad.items() if isinstance(bad, dict) else [(None, None)]:
            number = whole_number(index) if isinstance(index, str) else None
            if number is None or not 0 <= number < self.count or not isinstance(reason, str):
                raise DataError(f"{path}: its bad images are {str(bad)[:80]}: remove the folder")
            found[number] = reason
        return found

    def _chunk_file(self, chunk: int) -> Path:
        return self.folder / f"chunk_{chunk:06d}.npz"

    def _read(self, chunk: int) -> tuple[Embeddings, dict[int, str]]:
        path = self._chunk_file(chunk)
        begin, end = self.bounds(chunk)
        try:
            with ZipFile(path) as archive:
                read = {name: _entry(archive, f"{name}.npy", path) for name in (*SIDES, "bad")}
        except FileNotFoundError as error:
            raise DataError(f"{path}: absent; all ranks must share the folder") from error
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, BadZipFile) as error:
            raise DataError(f"{path}: damaged ({error}); remove it and run again") from error
        sides = []
        for name in SIDES:
            shape, start = _matrix(read[name], path)
            if shape[0] != end - begin or len(read[name]) != start + 4 * shape[0] * shape[1]:
                raise DataError(f"{path}: not of {end - begin} images; remove it and run again")
            sides.append(np.frombuffer(read[name], "<f4", offset=start).reshape(shape))
            _check_finite(sides[-1], begin, path)
        if sides[0].shape != sides[1].shape:
            raise DataError(f"{path}: features {sides[0].shape} and {sides[1].shape}; remove it and run again")
        return Embeddings(*sides), self._reasons(parse_json(_text(read["bad"], path), path), path)


def _entry(archive: ZipFile, name: str, path: Path) -> bytes:
    """An entry of a chunk, which is not compressed; so it takes no more memory than the file has."""
    info = archive.getinfo(name)
    if info.compress_type != ZIP_STORED or info.file_size != info.compress_size:
        raise DataError(f"{path}: {name} is compressed, which no chunk is; remove it and run again")
    return archive.read(info)


def _matrix(data: bytes, path: Path) -> tuple[tuple[int, int], int]:
    """Shape of the float32 matrix that a .npy file says it holds, and where its numbers begin."""
    found = _MATRIX.match(data)
    if found is None or int.from_bytes(found[1], "little") != found.end() - 10:
        raise DataError(f"{path}: no matrix of float32 as NumPy writes it; remove it and run again")
    return (int(found[2]), int(found[3])), found.end()


def _text(data: bytes, path: Path) -> str:
    found = _STRING.match(data)
    if found is None or len(data) != found.end() + 4 * int(found[2]):
        raise DataError(f"{path}: its list of bad images is no text as NumPy writes it; remove it and run again")
    try:
        return data[found.end() :].decode("utf-32-le").rstrip("\0")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: its list of bad images is no text ({error}); remove it and run again") from error


def _check_finite(features: np.ndarray, first: int, path: Path) -> None:
    rows = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(rows):
        raise DataError(f"{path}: feature {first + rows[0]} is not finite; remove it and run again")

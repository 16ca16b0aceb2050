"""Cache of features on disk: computed in chunks by any number of ranks, resumable, read without a copy.

A cache lies in a folder named after its key, which says what the features were made of: another model or other images
have another key, hence another folder, and never meet old features. While it is being filled it holds one file per
chunk; then `original.npy` and `mirrored.npy`, (N, d) float32 each, which are mapped into memory when they are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..models.embeddings import Embeddings
from ..utils.errors import DataError
from ..utils.files import atomic_path, atomic_write, leftovers, write_json

COMPLETE = "complete.json"


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
                parts = self._read(chunk)
                bad |= json.loads(str(parts.pop("bad")))
                for side, part in parts.items():
                    if side not in joined:
                        temporary = files.enter_context(atomic_path(self.folder / f"{side}.npy"))
                        shape = (self.count, part.shape[1])
                        joined[side] = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
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
        try:
            bad = json.loads((self.folder / COMPLETE).read_text(encoding="utf-8"))["bad"]
            sides = [np.load(self.folder / f"{side}.npy", mmap_mode="c") for side in ("original", "mirrored")]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.folder}: not a complete cache of features ({error}): remove the folder") from error
        if any(side.ndim != 2 or len(side) != self.count or side.dtype != np.float32 for side in sides):
            raise DataError(f"{self.folder}: its features are {sides[0].shape}, not of {self.count} images: remove it")
        return Embeddings(*(np.asarray(side) for side in sides)), {int(index): reason for index, reason in bad.items()}

    def _chunk_file(self, chunk: int) -> Path:
        return self.folder / f"chunk_{chunk:06d}.npz"

    def _read(self, chunk: int) -> dict[str, np.ndarray]:
        path = self._chunk_file(chunk)
        begin, end = self.bounds(chunk)
        try:
            with np.load(path) as parts:
                read = {name: parts[name] for name in ("original", "mirrored", "bad")}
        except FileNotFoundError as error:
            raise DataError(f"{path}: absent; all ranks must share the folder") from error
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(f"{path}: damaged ({error}); remove it and run again") from error
        if len(read["original"]) != end - begin or len(read["mirrored"]) != end - begin:
            raise DataError(f"{path}: not of {end - begin} images; remove it and run again")
        return read

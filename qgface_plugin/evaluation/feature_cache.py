"""Features on disk: computed in chunks by any number of ranks, resumed after an interruption, read without a copy.

A cache lies in a folder named after its key, which says what the features were made of: another model or other images
have another key, hence another folder, and never meet old features. While it is being filled it holds a file a chunk;
then `original.npy` and `mirrored.npy`, (N, d) float32 each, which are mapped into memory when they are read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..models.embeddings import Embeddings
from ..utils.errors import DataError

COMPLETE = "complete.json"
BUFFER = 1 << 20  # bytes of a file at a time


class FeatureCache:
    """The features of `count` images, `chunk` images a file.

    folder: where caches lie; key: what the features depend on, plain strings; name: begins the sub-folder's name.
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
        """Keep one chunk; bad: images of it that have no feature, and why. A chunk is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._chunk_file(chunk)
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        with partial.open("wb") as file:
            reasons = np.array(json.dumps({str(index): reason for index, reason in bad.items()}))
            np.savez(file, original=embeddings.original, mirrored=embeddings.mirrored, bad=reasons)
        os.replace(partial, path)

    def finish(self) -> None:
        """Join the chunks. Raises DataError naming one that is absent or damaged."""
        if self.complete:
            return
        bad: dict[str, str] = {}
        joined: dict[str, np.ndarray] = {}
        for chunk in range(self.chunks):
            begin, end = self.bounds(chunk)
            parts = self._read(chunk)
            bad |= json.loads(str(parts.pop("bad")))
            for side, part in parts.items():
                if side not in joined:
                    shape = (self.count, part.shape[1])
                    target = self.folder / f"{side}.npy.part"
                    joined[side] = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=shape)
                joined[side][begin:end] = part
        for side in list(joined):
            joined.pop(side).flush()
            os.replace(self.folder / f"{side}.npy.part", self.folder / f"{side}.npy")
        partial = self.folder / f"{COMPLETE}.part"
        partial.write_text(json.dumps({"key": self.key, "bad": bad}, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, self.folder / COMPLETE)
        for chunk in range(self.chunks):
            self._chunk_file(chunk).unlink()

    def load(self) -> tuple[Embeddings, dict[int, str]]:
        """Features of all images, mapped (writing to them changes no file), and the bad images with what is wrong.

        Raises DataError for an incomplete or damaged cache.
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


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(BUFFER):
            digest.update(block)
    return digest.hexdigest()

"""MXNet's RecordIO written byte for byte as MXNet writes it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ...utils.errors import DataError
from .format import FIRST, LAST, MAGIC, MAX_LENGTH, MIDDLE, PART, WHOLE, aligned_magics
from .index import index_line


class RecordWriter:
    """Writes a `.rec` file and its `.idx`, byte for byte as MXNet's MXIndexedRecordIO.

    A context manager. Both files appear under their names only when it ends well; until then they end in `.part`.

    Args:
        path: the `.rec` file.
        idx_path: its index; without it, the `.idx` beside it.
    """

    def __init__(self, path: str | Path, idx_path: str | Path | None = None) -> None:
        self.path = Path(path)
        self.idx_path = self.path.with_suffix(".idx") if idx_path is None else Path(idx_path)
        self._keys: set[int] = set()
        self._records = open(_partial(self.path), "wb")
        self._index = open(_partial(self.idx_path), "wb")

    def write(self, key: int, payload: bytes) -> None:
        """Append one record. DataError for a negative or repeated key, or a payload of 2**29 bytes or more."""
        if key < 0 or key in self._keys:
            raise DataError(f"{self.path}: key {key} is {'negative' if key < 0 else 'already written'}")
        payload = bytes(payload)
        if len(payload) > MAX_LENGTH:
            raise DataError(f"{self.path} key {key}: {len(payload)} bytes are more than a record's {MAX_LENGTH}")
        self._keys.add(key)
        self._index.write(index_line(key, self._records.tell()))
        cuts = aligned_magics(payload)
        starts = [0] + [cut + 4 for cut in cuts]
        for part, (start, stop) in enumerate(zip(starts, [*cuts, len(payload)], strict=True)):
            if not cuts:
                kind = WHOLE
            else:
                kind = LAST if part == len(cuts) else MIDDLE if part else FIRST
            self._records.write(PART.pack(MAGIC, kind << 29 | stop - start))
            self._records.write(payload[start:stop])
        self._records.write(bytes(-len(payload) % 4))

    def close(self) -> None:
        """Finish both files and give them their names. The index comes last: with it, the records are complete."""
        self._records.close()
        self._index.close()
        os.replace(_partial(self.path), self.path)
        os.replace(_partial(self.idx_path), self.idx_path)

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        for file in (self._records, self._index):
            with contextlib.suppress(OSError):  # a full disk fails once more when the rest is flushed
                file.close()
            os.remove(file.name)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".part")

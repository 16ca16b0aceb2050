"""Writer of MXNet's RecordIO, byte for byte as MXNet writes it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ...utils.errors import DataError
from ...utils.files import atomic_write, leftovers
from .format import FIRST, LAST, MAGIC, MAX_LENGTH, MIDDLE, PART, WHOLE, aligned_magics
from .index import index_line


class RecordWriter:
    """Writes a `.rec` file and its `.idx`, byte for byte as MXNet's MXIndexedRecordIO.

    A context manager. Both files appear under their names only when it ends well; what it writes until then, and what
    an earlier one left that was killed, is removed.

    Args:
        path: the `.rec` file.
        idx_path: its index; without it, the `.idx` beside it.

    Example:
        >>> import tempfile
        >>> from qgface_plugin.data.recordio import Header, RecordReader, pack
        >>> path = Path(tempfile.mkdtemp()) / "train.rec"
        >>> with RecordWriter(path) as writer:
        ...     writer.write(7, pack(Header(0, 3.0, 7, 0), b"an encoded image"))
        >>> RecordReader(path).keys.tolist()
        [7]
    """

    def __init__(self, path: str | Path, idx_path: str | Path | None = None) -> None:
        self.path = Path(path)
        self.idx_path = self.path.with_suffix(".idx") if idx_path is None else Path(idx_path)
        self._keys: set[int] = set()
        for file in (self.path, self.idx_path):
            for left, name in list(leftovers(file.parent)):
                if name == file.name:
                    left.unlink()
        with ExitStack() as files:
            # The records get their name last: with it, everything is complete.
            self._records = files.enter_context(atomic_write(self.path))
            self._index = files.enter_context(atomic_write(self.idx_path))
            self._files = files.pop_all()

    def write(self, key: int, payload: bytes) -> None:
        """Append one record.

        Raises:
            DataError: a negative or repeated key, or a payload of 2**29 bytes or more.
        """
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

    def flush(self) -> None:
        """Hand all of it to the disk, so that one without room for it says so before any file has its name."""
        self._records.flush()
        self._index.flush()

    def close(self) -> None:
        """Finish both files and give them their names."""
        self._files.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

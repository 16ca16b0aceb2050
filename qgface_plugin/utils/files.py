"""Files: writing that leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_LONGEST_NAME = 255  # bytes, on the usual file systems
_TEMPORARY = re.compile(r"(.+)\.\d+\.[0-9a-f]{8}\.part")


@contextlib.contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A name beside `path` to write a file to, which takes the place of `path` when the block ends well.

    For writers that want a name; `atomic_write` gives an open file. A reader of `path` sees the old file or the new
    one, never a part of it, also where several processes write it at once: the last to finish wins. A block that
    fails leaves the old file and nothing else; a kill leaves the temporary file too (see `leftovers`).

    Args:
        path: the file to write. Its folder is created. A link is replaced, and what it names stays as it is.
        durable: wait until the file and its name are on the disk, so that a power cut takes neither.

    Yields:
        The temporary name, in the folder of `path`, that carries the process id. A replaced file's mode is kept.

    Raises:
        OSError: The file cannot be written; it names `path`, not the temporary file.
    """
    path = Path(path)
    suffix = f".{os.getpid()}.{secrets.token_hex(4)}.part"
    stem = os.fsdecode(os.fsencode(path.name)[: _LONGEST_NAME - len(suffix)])  # a long name leaves no room for it
    temporary = path.with_name(stem + suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _take_mode(path, temporary)
        if durable:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        if error.filename in (str(temporary), temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):  # what went wrong before is what to tell
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(
    path: str | Path,
    mode: str = "wb",
    *,
    encoding: str | None = None,
    errors: str = "backslashreplace",
    durable: bool = False,
) -> Iterator[IO[Any]]:
    r"""An open file that takes the place of `path` when the block ends well; see `atomic_path`.

    Args:
        path: the file to write. Its folder is created.
        mode: as `open` has it: "wb", "w+b", or "w" for text, which is UTF-8 with "\n" at the end of each line.
        encoding: of text, if another one.
        errors: what becomes of a name of a file that is no UTF-8 (Python has it with surrogates in it): for people
            "backslashreplace", for lists of files "surrogateescape", which writes the name's own bytes.
        durable: wait until the file and its name are on the disk.

    Raises:
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "new" / "names.txt"
        >>> with atomic_write(path, "w") as file:
        ...     _ = file.write("Ada\n")
        ...     path.exists()
        False
        >>> path.read_text()
        'Ada\n'
    """
    text: dict[str, Any] = {"encoding": encoding or "utf-8", "errors": errors, "newline": "\n"}
    with atomic_path(path, durable=durable) as temporary:
        with open(temporary, mode, **({} if "b" in mode else text)) as file:
            yield file


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, its folder too where there is none; it appears under its name only when it is complete."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: str | Path, text: str, errors: str = "backslashreplace") -> None:
    """Write `text` in UTF-8, as `write_bytes` does; `errors` as in `atomic_write`."""
    write_bytes(path, text.encode(errors=errors))


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as JSON, as `write_bytes` does: ASCII, so that any name of a file can stand in it."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def leftovers(folder: str | Path) -> Iterator[tuple[Path, str]]:
    """What kills have left in a folder: each temporary file, and the name of the file that it was to become.

    A file that another process is writing at this moment is among them.
    """
    for path in Path(folder).glob("*.part"):
        if match := _TEMPORARY.fullmatch(path.name):
            yield path, match[1]


def _take_mode(path: Path, temporary: Path) -> None:
    """Give the temporary file the mode of the file that it replaces."""
    try:
        before = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(before) and temporary.stat().st_mode != before:  # some file systems refuse every change
        temporary.chmod(stat.S_IMODE(before) | stat.S_IRUSR)  # whoever writes a file can read it


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shown(text: str) -> str:
    r"""`text` as any program can print it: the bytes of a name of a file that is no UTF-8 become escapes.

    Example:
        >>> print(shown(os.fsdecode(b"Jos\xe9.jpg")), shown("Ada.jpg"))
        Jos\udce9.jpg Ada.jpg
    """
    return text.encode(errors="backslashreplace").decode()


def read_regular(path: str | Path, most: int | None = None) -> bytes:
    """The bytes of a regular file: a FIFO would wait for a writer, and some devices never end.

    Args:
        path: the file.
        most: bytes that it may have; None: any number.

    Raises:
        OSError: unreadable, no regular file, or larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # which refuses a folder
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file but a FIFO or a device", str(path))
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"a file of {status.st_size / 1e6:.0f} MB is too large", str(path))
        return file.read()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def models_folder() -> Path:
    """The folder of insightface's model packs: ~/.insightface/models, one folder per pack."""
    return Path.home() / ".insightface" / "models"

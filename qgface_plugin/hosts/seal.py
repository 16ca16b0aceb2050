"""Is a file of torch.save whole? torch.load itself notices a missing end, but no flipped byte.

The seal is the SHA-256 of all that precedes it, kept as the comment that a ZIP archive may have at its very end; so the
file stays one that torch.load and unzip read. Files without a seal have the CRCs of their archive.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from ..errors import CheckpointError
from .archive import check_entries

_ZIP_END, _ZIP_END_LENGTH = b"PK\x05\x06", 22  # the archive's last record; its last two bytes: length of the comment
_SEAL, _SEAL_LENGTH = b"qgface-sha256:", 14 + 64


class DamagedError(CheckpointError):
    """A file is cut short, or has changed since it was written."""


def seal(file: BinaryIO) -> None:
    """Append the SHA-256 of the archive as its comment; the comment's length is part of what is hashed."""
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", _SEAL_LENGTH))
    end = file.tell()
    digest = _digest(file, end)
    file.seek(end)
    file.write(_SEAL + digest)


def check_whole(path: Path) -> None:
    """Raise DamagedError, with the reason, unless the file is as it was written."""
    with open(path, "rb") as file:
        start = file.read(4)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _SEAL_LENGTH - _ZIP_END_LENGTH))
        end = file.read()
        if end.startswith(_ZIP_END) and end[_ZIP_END_LENGTH:].startswith(_SEAL):
            if _digest(file, size - _SEAL_LENGTH) != end[-64:]:
                raise DamagedError(f"{path} is damaged: its SHA-256 is not the one it was saved with")
        elif end[-_ZIP_END_LENGTH:].startswith(_ZIP_END) and end.endswith(b"\0\0"):
            _check_crcs(path, file)
        elif start == b"PK\x03\x04":
            raise DamagedError(f"{path} is cut short: its {size} bytes lack the archive's end")
        else:
            raise DamagedError(f"{path} is damaged, or no file of torch.save (1.6 or later): {size} bytes, no archive")


def _check_crcs(path: Path, file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            check_entries(archive, file.seek(0, os.SEEK_END))
            entry = archive.testzip()
    except Exception as error:  # zipfile meets garbage with half a dozen types
        raise DamagedError(f"{path} is damaged: {error}") from error
    if entry is not None:
        raise DamagedError(f"{path} is damaged: {entry} does not have the CRC it was saved with")


def _digest(file: BinaryIO, length: int) -> bytes:
    file.seek(0)
    sha = hashlib.sha256()
    while length > 0 and (chunk := file.read(min(length, 1 << 20))):
        sha.update(chunk)
        length -= len(chunk)
    return sha.hexdigest().encode()

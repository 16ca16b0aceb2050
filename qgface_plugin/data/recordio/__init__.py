"""RecordIO: MXNet's bytes, read and written without it."""

from __future__ import annotations

from .format import Header, pack, unpack
from .reader import RecordReader
from .writer import RecordWriter

__all__ = ["Header", "RecordReader", "RecordWriter", "pack", "unpack"]

"""Mark of evaluation data: by what lies there now, so that a result of other data under the same path is not taken.

Cheap enough to be asked at every start: names, sizes and times of all files, and the ends of those that hold pairs,
lists or tables. It says that something has changed; that nothing has, it says as far as a file's time can be trusted.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..utils.listing import files_in, walk

ENDS = 1 << 16  # bytes at the beginning and at the end of a file that are looked at
LOOKED_INTO = (".bin", ".txt", ".csv", ".lst", ".tsv", ".mat", ".pkl", ".json")
OURS = frozenset(("features", "results"))  # folders that evaluations write, also beside the data


def data_mark(data: str | Path, protocol: str) -> str:
    """SHA-256 of what the evaluation data of a protocol look like, as hexadecimal digits; "" where there are none.

    Args:
        data: the folder, or the file.
        protocol: "pairs" looks at `.bin` files only; all others at whatever is below the folder.

    Raises:
        DataError: the folder cannot be read.
        OSError: a file cannot be read.
    """
    data = Path(data)
    if not data.exists():
        return ""
    if data.is_file():
        files = [data]
    elif protocol.startswith("pairs"):
        files = files_in(data, ".bin")
    else:
        files = [data / path for path in sorted(walk(data), key=os.fsencode) if not OURS & set(path.parts[:-1])]
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        name = os.fsencode(path.relative_to(data)) if path != data else b""
        digest.update(b"%b\0%d\0%d\0" % (name, status.st_size, status.st_mtime_ns))
        if path.name.lower().endswith(LOOKED_INTO):
            with open(path, "rb") as file:
                digest.update(file.read(ENDS))
                file.seek(max(0, status.st_size - ENDS))
                digest.update(file.read(ENDS))
    return digest.hexdigest()

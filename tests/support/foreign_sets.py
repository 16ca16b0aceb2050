"""Sets of faces as other trainers' programs write them, by the packages that those use."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qgface_plugin.data.images import encode_jpeg


def faces(labels: Iterable[int], size: int = 112) -> list[tuple[bytes, int]]:
    """A JPEG per label, all different, from 1 to 12 KB."""
    rng, found = np.random.default_rng(0), []
    for label in labels:
        coarse = rng.integers(0, 256, (int(rng.integers(2, size // 2)),) * 2 + (3,), dtype=np.uint8)
        index = np.arange(size) * len(coarse) // size
        found.append((encode_jpeg(coarse[index][:, index], 95), int(label)))
    return found


def write_lmdb(path: Path, items: Sequence[tuple[bytes, int]], **changes: Any) -> Path:
    """As imagelist2lmdb.py does; `changes`: other values under __keys__, __len__, __classnum__, None for none."""
    import lmdb
    import msgpack

    with lmdb.open(str(path), subdir=path.is_dir(), map_size=1 << 26) as database, database.begin(write=True) as write:
        for index, item in enumerate(items):
            write.put(str(index).encode(), item if isinstance(item, bytes) else msgpack.dumps(item))
        about: dict[str, Any] = {"keys": [str(index).encode() for index in range(len(items))], "len": len(items)}
        about["classnum"] = max((item[1] for item in items if isinstance(item, tuple)), default=0) + 1
        for name, value in {**about, **changes}.items():
            if value is not None:
                write.put(f"__{name}__".encode(), msgpack.dumps(value))
    return path


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar of members in their order."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(items: Sequence[tuple[bytes, int]], kind: str = "cls", first: int = 0) -> list[tuple[str, bytes]]:
    """Members of a tar, the label beside each image."""
    members = []
    for index, (image, label) in enumerate(items, first):
        text = json.dumps({"width": 112, "label": label}) if kind == "json" else str(label)
        members += [(f"{index:06d}.jpg", image), (f"{index:06d}.{kind}", text.encode())]
    return members


def write_parquet(path: Path, items: Sequence[tuple[Any, Any]], image: str = "image", label: str = "label") -> Path:
    """As Hugging Face has it: a struct of bytes and path, and an int64; small row groups."""
    import pyarrow as pa
    from pyarrow import parquet

    images = [one if isinstance(one, dict) else {"bytes": one, "path": f"{i}.jpg"} for i, (one, _) in enumerate(items)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(images, kind), label: [label for _, label in items], "width": [112] * len(items)})
    parquet.write_table(table, path, row_group_size=7)
    return path

"""Opening a large data set: its index, its identities and the check of its labels, against a plain loop over the index.

A made-up set in InsightFace's layout is written to a temporary folder: 3,000,000 records in a sparse file of 41 GB that
takes up about 150 MB, with what opening looks at in place. Each way then runs in a process of its own and reports
seconds and the memory that it held beyond what the imported packages take. Files are in the system's cache.
"""

from __future__ import annotations

import argparse
import os
import struct
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.images import JPEG_SIGNATURE
from ..data.recordio.format import MAGIC, PART, Header, pack
from ..data.recordio.index import index_line
from ..data.sources.records import FaceRecords
from ..utils.errors import ConfigError

LINES = 100_000  # of the index, written at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=3_000_000, help="images [%(default)s]")
    parser.add_argument("--identities", type=int, default=8631, help="[%(default)s]")
    parser.add_argument("--bytes", type=int, default=13_632, help="of a record, a multiple of 4 [%(default)s]")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made [the system's choice]")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and bytes of a plain loop, of the first opening, which parses the index, and of later ones."""
    if not 1 <= arguments.identities <= arguments.records // 2:
        raise ConfigError("--identities is at least 1, and --records at least two an identity")
    if arguments.bytes % 4 or arguments.bytes < 256:
        raise ConfigError("--bytes is a multiple of 4, at least 256")
    with tempfile.TemporaryDirectory(prefix="open_benchmark_", dir=arguments.folder) as scratch:
        folder = Path(scratch)
        make_set(folder, arguments.records, arguments.identities, arguments.bytes)
        results: dict[str, Any] = {
            "records": arguments.records,
            "identities": arguments.identities,
            "GB of train.rec": (folder / "train.rec").stat().st_size / 1e9,
            "MB of train.idx": (folder / "train.idx").stat().st_size / 1e6,
            "plain loop over the index": _alone(_plain, folder),
            "first opening": _alone(_open, folder),
            "later opening": min((_alone(_open, folder) for _ in range(3)), key=lambda one: one["seconds"]),
        }
    for way in ("first opening", "later opening"):
        results[f"plain / {way}"] = results["plain loop over the index"]["seconds"] / results[way]["seconds"]
    return results


def make_set(folder: Path, images: int, identities: int, size: int) -> None:
    """`train.rec`, `train.idx` and `property`; of the images only the first two of each identity are no holes."""
    begins = np.linspace(1, images + 1, identities + 1).astype(np.int64)
    header = pack(Header(0, [images + 1, images + 1 + identities], 0, 0), b"")
    first_image = PART.size + len(header)
    first_range = first_image + images * size
    with open(folder / "train.rec", "wb") as file:
        file.write(PART.pack(MAGIC, len(header)) + header)
        for label, key in enumerate(tqdm(begins[:-1].tolist(), desc="identities", leave=False, disable=None)):
            face = pack(Header(0, float(label), key, 0), JPEG_SIGNATURE + b"\xe0")
            for at in (key, key + 1):
                file.seek(first_image + (at - 1) * size)
                file.write(PART.pack(MAGIC, size - PART.size) + face)
        file.seek(first_range)
        for key, (begin, end) in enumerate(zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True)):
            record = pack(Header(0, [begin, end], images + 1 + key, 0), b"")
            file.write(PART.pack(MAGIC, len(record)) + record)
    offsets = np.concatenate(
        [[0], first_image + size * np.arange(images), first_range + (PART.size + len(header)) * np.arange(identities)]
    )
    with open(folder / "train.idx", "wb") as file:
        for start in tqdm(range(0, len(offsets), LINES), desc="index", leave=False, disable=None):
            rows = enumerate(offsets[start : start + LINES].tolist(), start)
            file.write(b"".join(index_line(key, offset) for key, offset in rows))
    (folder / "property").write_text(f"{identities},112,112")


def _plain(folder: Path) -> tuple[int, int]:
    """As MXNet reads an index: a dict, line by line. Looks at the header record, and at no label."""
    offsets: dict[int, int] = {}
    with open(folder / "train.idx") as file:
        for line in file:
            key, offset = line.strip().split("\t")
            offsets[int(key)] = int(offset)
    with open(folder / "train.rec", "rb") as file:
        file.seek(offsets[0] + PART.size + 24)
        images_end, identities_end = struct.unpack("<2f", file.read(8))
    return int(images_end) - 1, int(identities_end - images_end)


def _open(folder: Path) -> tuple[int, int]:
    """As training opens it: index, identities, labels."""
    source = FaceRecords(folder)
    source.check()
    return len(source), source.num_classes


def _alone(way: Callable[[Path], tuple[int, int]], folder: Path) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, way, folder).result()


def _measured(way: Callable[[Path], tuple[int, int]], folder: Path) -> dict[str, float]:
    before = _status("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    images, identities = way(folder)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "seconds": seconds,
        "seconds of CPU": cpu,
        "MB": (_status("VmHWM") - before) / 1e6,
        "images": images,
        "identities": identities,
    }


def _status(name: str) -> int:
    """Bytes that this process holds now (VmRSS) or has held at most (VmHWM); Linux only."""
    path = f"/proc/{os.getpid()}/status"
    if not os.path.exists(path):
        raise ConfigError("the memory of a process is only measured on Linux")
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

"""What the W&B package has written offline, read back: a run's settings and the rows of its history."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32768, struct.Struct("<IHB")  # LevelDB's log: checksum, length, part of a record


def records(path: Path, patience: float = 60.0) -> list[Any]:
    """The records of a `run-<id>.wandb` file, as the package reads them, once its helper has written all of them."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        found = _records(path)
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path}: the run has not ended")


def _records(path: Path) -> list[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts, found = path.read_bytes(), 7, b"", []  # 7: the file's own head
    assert data[:4] in (b":W&B", b"")
    while at + HEAD.size <= len(data):  # what is being written may end anywhere
        room = BLOCK - at % BLOCK
        if room < HEAD.size:
            at += room
            continue
        _, length, part = HEAD.unpack_from(data, at)
        if at + HEAD.size + length > len(data):
            break
        parts += data[at + HEAD.size : at + HEAD.size + length]
        at += HEAD.size + length
        if part in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def run_file(folder: Path) -> Path:
    """The latest `run-<id>.wandb` below an output folder."""
    (path,) = (folder / "wandb" / "latest-run").resolve().glob("run-*.wandb")
    return path


def history(path: Path) -> list[dict[str, Any]]:
    """The rows that were logged; `_step` is W&B's step."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            named = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append({"_step": record.history.step.num, **named})
    return rows


def config(path: Path) -> dict[str, Any]:
    """The settings that the run shows."""
    found: dict[str, Any] = {}
    for record in records(path):
        updates = list(record.config.update)
        if record.WhichOneof("record_type") == "run":
            updates += record.run.config.update
        found |= {item.key: json.loads(item.value_json) for item in updates if item.key}
    return found

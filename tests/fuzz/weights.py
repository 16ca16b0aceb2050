"""Weights as other trainers save them: damaged, and made by someone who knows the formats.

What a wrong answer is: tensors longer than the file that they came from, or, of an archive whose check sums were not
set anew, others than the undamaged file's.
"""

from __future__ import annotations

import io
import json
import struct
from argparse import Namespace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz.case import Case, pick
from fuzz.checkpoints import HUGE, another_pickle, hostile, hot, looked_at, same
from fuzz.guard import Finding
from fuzz.mutate import Damaged, damage

from qgface_plugin.models.weights import read_backbone

KINDS = ("archive", "legacy", "safetensors")
LEGACY_HEAD = 15 + 7  # the magic number and the version, pickled


def weights() -> dict[str, torch.Tensor]:
    return {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3).half(), "n": torch.tensor(7)}


@lru_cache(maxsize=1)
def seeds() -> dict[str, bytes]:
    """An archive and a file before 1.6 as Lightning fills them, and safetensors."""
    state = {f"model.{name}": value for name, value in weights().items()} | {"head.kernel": torch.ones(4, 5)}
    value = {"epoch": 3, "state_dict": state, "hyper_parameters": Namespace(lr=0.1), "best": np.float64(0.5)}
    files = {}
    for kind in KINDS[:2]:
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=kind == "archive")
        files[kind] = file.getvalue()
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in weights().items():
        raw = tensor.numpy().tobytes()
        kind = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    files["safetensors"] = struct.pack("<Q", len(text)) + text + data
    return files


def make(rng: np.random.Generator) -> Case:
    kind = pick(rng, KINDS)
    data = seeds()[kind]
    known = rng.random() < 0.6  # made by someone who knows the format
    if known and kind == "archive":
        data = hostile(data, rng)
    elif known and kind == "legacy":
        head, rest = data[:LEGACY_HEAD], data[LEGACY_HEAD:]
        for _ in range(int(rng.integers(1, 3))):
            rest = another_pickle(rest, rng)
        data = head + rest
    elif known:
        data = another_header(data, rng)
    else:
        other = Damaged.whole(seeds()[pick(rng, KINDS)])
        data = damage(Damaged.whole(data), rng, hot(data) or [0, 8], other, grain=1).bytes()
    exact = kind == "archive" and not known
    return Case({"weights.pt": data}, lambda folder: check(folder, exact), kind)


def another_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Safetensors with a number, a name or a value of someone's choosing in the header, its length right or wrong."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    entry = header[pick(rng, list(header))]
    choice = int(rng.integers(6))
    if choice == 0:
        entry["shape"] = [pick(rng, HUGE) for _ in range(int(rng.integers(4)))]
    elif choice == 1:
        entry["data_offsets"] = [pick(rng, HUGE), pick(rng, HUGE)]
    elif choice == 2:
        entry["dtype"] = pick(rng, ("F64", "F8_E4M3", "BOOL", "", None, 3, ["F32"]))
    elif choice == 3:
        entry[pick(rng, list(entry))] = pick(rng, (None, {}, [], "x", 1e400, -1, [[1]], [None, 2]))
    elif choice == 4:
        header[pick(rng, ("", "__metadata__", "fc.weight", "a" * 999))] = pick(rng, (entry, None, [], {"x": 1}))
    text = json.dumps(header).encode()
    if choice == 5:
        text = b"[" * int(2 ** rng.uniform(0, 17)) if rng.random() < 0.5 else text.replace(b"12", b"1" * 5000)
        text = b"{" + text if rng.random() < 0.5 else text
    claimed = len(text) if rng.random() < 0.8 else pick(rng, HUGE) % (1 << 63)
    return struct.pack("<Q", claimed) + text + data[8 + length :]


def check(folder: Path, exact: bool) -> int:
    path = folder / "weights.pt"
    found = read_backbone(path, ["fc.weight", "fc.bias"])
    looked_at(found, 2 * path.stat().st_size)
    if exact and not same(found, weights()):
        raise Finding("content", "a damaged archive is loaded")
    return len(found)

"""Checkpoints, ours and plain torch.save's: damaged, and made by someone who can put every check sum right.

What a wrong answer is: a file that was damaged and not sealed anew must be refused or give what the undamaged one
gives, and a store must then fall back to the checkpoint before it.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import Damaged, damage, fresh

from qgface_plugin.training.checkpoints.latest import latest_state
from qgface_plugin.training.checkpoints.store import CheckpointStore
from qgface_plugin.utils.errors import CheckpointError
from qgface_plugin.utils.torch_files import KEYS, load, seal

HUGE = (1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40, (1 << 62), -1, 0, 1)
CALLS = """os system, builtins bytearray, torch Tensor, collections Counter, collections OrderedDict, torch Size,
torch._utils _rebuild_tensor_v2, torch._utils _rebuild_parameter, torch.nn.parameter Parameter, torch FloatStorage,
torch.storage UntypedStorage, torch._utils _rebuild_meta_tensor_no_storage, _codecs encode, builtins set, torch device,
torch._tensor _rebuild_from_type_v2, torch float32, torch._utils _rebuild_sparse_tensor""".split(",")
ARGUMENTS = (b"J\xff\xff\xff\x7f\x85", b"\x8a\x06" + (1 << 44).to_bytes(6, "little") + b"\x85", b")",
             b"(ttttR", b"}\x85", b"]\x85", b"X\x01\x00\x00\x00a\x85", b"X\x05\x00\x00\x00cuda:\x85", b"N\x85",
             b"(K\x01K\x02K\x03t\x85")  # fmt: skip
OPCODES = b"\x80.(tcRb]ae)\x85\x86\x87}su\x8fN\x88\x89JKMG\x8aXUQhjqr0102\x93\x94\x95\x96BT"


def state(step: int) -> dict[str, Any]:
    """A small training checkpoint with every kind of value that real ones hold."""
    torch.manual_seed(step)
    weights = OrderedDict(weight=torch.rand(3, 4), half=torch.rand(3).half(), count=torch.tensor(step))
    optimizer = {"state": {0: {"momentum_buffer": weights["weight"][1:]}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    values = (step, step, weights, {"weight": torch.rand(2, 2)}, optimizer, {"last_epoch": step, "milestones": {3: 1}})
    extra = {"rng": {"torch": torch.arange(9, dtype=torch.uint8), "python": (3, (1 << 31, 5), None)}, "bad": False}
    extra.update(world_size=1, run_id="a")
    return {**dict(zip(KEYS, values, strict=True)), "qgface": extra}


@lru_cache(maxsize=1)
def seeds() -> list[bytes]:
    """Step 2: as our store writes it, and as arcface_torch's torch.save does; then the store's step 1."""
    with tempfile.TemporaryDirectory() as name:
        store = CheckpointStore(name)
        store.save(state(1))
        before = store.latest.read_bytes()
        store.save(state(2))
        ours = store.latest.read_bytes()
    plain = io.BytesIO()
    torch.save({**state(2), "qgface": {**state(2)["qgface"], "format": 1}}, plain)
    return [ours, plain.getvalue(), before]


def make(rng: np.random.Generator) -> Case:
    data = pick(rng, seeds()[:2])
    resealed = rng.random() < 0.6
    if resealed:
        data = hostile(data, rng)
        if rng.random() < 0.3:
            data = damage(Damaged.whole(data), rng, hot(data), Damaged.whole(seeds()[2]), grain=1).bytes()
        if rng.random() < 0.7:
            data = sealed(data)
    else:
        data = damage(Damaged.whole(data), rng, hot(data), Damaged.whole(seeds()[2]), grain=1).bytes()
    files = {"checkpoint_gpu_0.pt": data, "checkpoint_gpu_0.1.pt": seeds()[2]}
    return Case(files, lambda folder: check(folder, resealed), "resealed" if resealed else "")


def hot(data: bytes) -> list[int]:
    """Where the archive's headers, directory and end are."""
    found, at = [], data.find(b"PK")
    while at >= 0:
        found.append(at)
        at = data.find(b"PK", at + 1)
    return found


def hostile(data: bytes, rng: np.random.Generator) -> bytes:
    """The archive written anew with right CRCs: another pickle, entries lost, added, expanding or of another size."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(len(entries)))
        name, content = entries[at]
        kind = int(rng.integers(8))
        if kind < 5:
            at = next(i for i, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
            entries[at] = (entries[at][0], another_pickle(entries[at][1], rng))
        elif kind == 5:
            entries[at] = (name, content[: int(rng.integers(len(content) + 1))] * int(rng.integers(0, 3)))
        elif kind == 6 and len(entries) > 1:
            del entries[at]
        else:
            entries.append((pick(rng, (name, name.upper(), "x/" + name, name + "/", "../" + name, "é", "x")), content))
        if not any(name.endswith("data.pkl") for name, _ in entries):
            entries.append(("archive/data.pkl", b"\x80\x02]."))
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            if method == zipfile.ZIP_DEFLATED and rng.random() < 0.1:
                content = bytes(1 << 21)  # expands a thousandfold
            archive.writestr(name, content)
    return out.getvalue()


def another_pickle(data: bytes, rng: np.random.Generator) -> bytes:
    """Damaged as any file, or with numbers, calls and opcodes of someone's choosing put in."""
    kind = int(rng.integers(5))
    file = Damaged.whole(data)
    if not data:
        return data
    if kind == 0:
        return damage(file, rng, [0], file, grain=1).bytes()
    at = int(rng.integers(len(data) + 1))
    if kind == 1:  # a number of the pickle: sizes, strides, offsets, lengths of storages
        places = [i for i, code in enumerate(data) if code in b"KMJ"]
        at = pick(rng, places or [0])
        width = {ord("K"): 2, ord("M"): 3, ord("J"): 5}.get(data[at], 1)
        new = b"\x8a\x08" + struct.pack("<q", pick(rng, HUGE))
        return data[:at] + new + data[at + width :]
    if kind == 2:
        module, name = pick(rng, CALLS).split()
        new = f"c{module}\n{name}\n".encode() + pick(rng, ARGUMENTS) + pick(rng, (b"R", b"R0", b"\x81", b"Rb"))
    elif kind == 3:
        new = bytes([pick(rng, OPCODES)])
    else:
        deep = int(2 ** rng.uniform(0, 17))
        new = pick(
            rng,
            (
                b"(" * deep,
                b"]" + b"\x85" * deep,
                b")" + b"\x85" * deep + b"K\x00s",
                b"]" + b"q\x00h\x00h\x00\x86" * min(deep, 90),
            ),
        )
    return (file.cut(0, at) + fresh(new) + file.cut(at, len(data))).bytes()


def sealed(data: bytes) -> bytes:
    """With the archive's comment emptied and the seal set anew, as only a writer of files would."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or len(data) < end + 22:
        return data
    file = io.BytesIO(data[: end + 20] + b"\0\0")
    seal(file)
    return file.getvalue()


def check(folder: Path, resealed: bool) -> int:
    newest = folder / "checkpoint_gpu_0.pt"
    latest, problem = None, None
    try:
        latest = latest_state(folder, "a", num_classes=2, queue_size=None, queue_slots=0)
    except CheckpointError as error:
        problem = error
    if latest is not None:
        looked_at(latest, sum(path.stat().st_size for path in folder.iterdir()))
        if not resealed and not any(same(latest, state(step)) for step in (1, 2)):
            raise Finding("content", f"a damaged checkpoint of step {latest['global_step']} is used")
    elif problem is None or not resealed:
        raise Finding("content", f"the whole checkpoint of step 1 is not used: {problem}")
    loaded = load(newest)
    looked_at(loaded, newest.stat().st_size)
    if not resealed and not same(loaded, state(2)):
        raise Finding("content", "a damaged checkpoint is loaded")
    return 1


def looked_at(value: Any, size: int) -> None:
    """Finding when the storages of all tensors are longer than the file that they came from."""
    held: dict[int, int] = {}
    todo, seen = [value], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            held[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        elif isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            todo += item
    if sum(held.values()) > size:
        raise Finding("memory", f"{sum(held.values())} bytes of tensors out of a file of {size}")


def same(a: Any, b: Any) -> bool:
    """Equal in every value, tensors included; `b` has no "format", which the store adds."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() - {"format"} == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(a, (list, tuple)) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)

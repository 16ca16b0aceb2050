"""Files of tensors that others write: read as torch.load reads them, or refused by what they are, with no code run."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import struct
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qgface_plugin.utils.errors import CheckpointError
from qgface_plugin.utils.tensor_files import read_tensors
from qgface_plugin.utils.tensor_pickle import Foreign, StoredTensor
from qgface_plugin.utils.torch_files import DamagedError

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def tensors() -> dict[str, torch.Tensor]:
    """Every kind and layout: views, transposed ones, empty ones, numbers, two of one storage, a parameter."""
    whole = torch.arange(24.0).reshape(4, 6)
    kinds = {str(dtype): (torch.arange(6) % 3).to(dtype).reshape(2, 3) for dtype in NAMES}
    odd = {"view": whole[1:3, 2:5], "turned": whole.T, "empty": torch.empty(0, 3), "number": torch.tensor(7)}
    return {**kinds, **odd, "parameter": nn.Parameter(torch.ones(2)), "last": torch.zeros(3, 3)}


def read(value: Any) -> Any:
    if isinstance(value, StoredTensor):
        return value.read()
    if isinstance(value, dict):
        return {key: read(item) for key, item in value.items()}
    return type(value)(map(read, value)) if isinstance(value, list | tuple) else value


def equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and found.shape == expected.shape and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return found == expected


def write_safetensors(path: Path, state: dict[str, torch.Tensor], **header: Any) -> Path:
    """The format by its definition: length of the header, header, bytes."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in state.items():
        raw = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
        place = [len(data), len(data) + len(raw)]
        entries[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "data_offsets": place}
        data += raw
    text = json.dumps({**entries, **header}).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
def test_what_torch_save_writes_is_what_it_was(tmp_path: Path, options: dict[str, Any]) -> None:
    value = {"a": tensors(), "b": [1, 2.5, None, ("x", True)], 3: OrderedDict(c=torch.Size([1, 2]))}
    torch.save(value, tmp_path / "x.pt", **options)
    found = read(read_tensors(tmp_path / "x.pt"))
    assert equal(found, {**value, 3: {"c": (1, 2)}})


def test_safetensors_are_what_they_were(tmp_path: Path) -> None:
    state = {name: value for name, value in tensors().items() if name != "turned"}
    assert equal(read(read_tensors(write_safetensors(tmp_path / "x.safetensors", state))), state)


def test_what_trainers_save_beside_weights_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's classes as keys, settings as objects, NumPy's numbers: nothing of it is imported."""
    module = types.ModuleType("pytorch_lightning.callbacks")
    module.Checkpoint = type("Checkpoint", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    one = module.Checkpoint()
    one.best, one.self = np.float32(3), one
    value = {
        "callbacks": {module.Checkpoint: {"best": np.float64(0.5), "names": np.array(["a", "b"])}},
        "hyper_parameters": argparse.Namespace(lr=0.1, size=(112, 112)),
        "one": one,
        "state_dict": OrderedDict(w=torch.ones(2)),
    }
    torch.save(value, tmp_path / "x.ckpt")
    torch.save(value, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    monkeypatch.delitem(sys.modules, module.__name__)
    for name in ("x.ckpt", "old.ckpt"):
        found = read_tensors(tmp_path / name)
        assert isinstance(found["one"], Foreign) and isinstance(found["hyper_parameters"], Foreign)
        assert equal(read(found["state_dict"]), {"w": torch.ones(2)})
    assert module.__name__ not in sys.modules


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("new", [True, False])
def test_code_is_refused_and_not_run(tmp_path: Path, new: bool) -> None:
    torch.save(
        {"w": torch.ones(1), "x": Evil(tmp_path / "was_here")}, tmp_path / "x.pt", _use_new_zipfile_serialization=new
    )
    with pytest.raises(CheckpointError, match="x.pt is refused: it asks for .*can run any code"):
        read_tensors(tmp_path / "x.pt")
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("new", [True, False])
def test_whole_modules_are_called_so(tmp_path: Path, new: bool) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 3)), tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match=r"x.pt holds a whole module.*torch\.nn.*state_dict\(\)"):
        read_tensors(tmp_path / "x.pt")


def other_zip(path: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def export(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 3), (torch.ones(1, 2),)), path)


def script(path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 3), torch.ones(1, 2)).save(str(path))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (script, r"is a TorchScript archive.*torch\.jit\.load\('x.pt'"),
        (export, r"is an exported program.*torch\.export\.load\('x.pt'"),
        (lambda p: np.savez(open(p, "wb"), a=np.ones(2)), r"is an archive of NumPy arrays \(.npz\)"),
        (lambda p: other_zip(p, **{"weights/model.pt": b"x"}), "is a ZIP archive, but none of torch.save"),
        (lambda p: p.write_bytes(pickle.dumps({"w": np.ones(2)})), "is a pickle that torch.save did not write"),
        (lambda p: p.write_bytes(pickle.dumps({"w": [1]}, protocol=2)), "is a pickle that torch.save did not write"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid"), "is a pointer of Git LFS"),
        (lambda p: p.write_text("\n<!DOCTYPE html><html></html>"), "is a web page"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "is an HDF5 file"),
        (lambda p: p.write_bytes(b"\x1f\x8b\x08" + bytes(90)), "is compressed by gzip: unpack it"),
        (lambda p: p.write_bytes(bytes(257) + b"ustar" + bytes(300)), "is a tar archive: unpack it"),
        (lambda p: p.write_bytes(struct.pack("<QQ", 0x112, 0) + bytes(90)), "is a .params file of MXNet"),
        (lambda p: p.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(90)), "is an ONNX file"),
        (lambda p: p.mkdir(), "is a folder, no file"),
        (lambda p: None, "does not exist"),
    ],
)  # fmt: skip
def test_other_files_are_called_what_they_are(tmp_path: Path, write, said: str) -> None:
    write(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=f"x.pt {said}") as error:
        read_tensors(tmp_path / "x.pt")
    assert not isinstance(error.value, DamagedError)


def saved(new: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"w": torch.arange(64.0), "v": torch.ones(3)}, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


@pytest.mark.parametrize("end", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
def test_what_is_cut_short_is_damaged(tmp_path: Path, kind: str, end: float) -> None:
    path = tmp_path / "x"
    if kind == "safetensors":
        whole = write_safetensors(path, tensors()).read_bytes()
    else:
        whole = saved(kind == "archive")
    path.write_bytes(whole[: int(len(whole) * end)])
    with pytest.raises(DamagedError, match="x is (cut short|damaged)"):
        read_tensors(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(DamagedError, match="x is (cut short|damaged)"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(4000), b"\xff" * 4000])
def test_what_is_nothing_known_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(DamagedError, match=f"x.pt is damaged, or no file of .*: {len(content)} bytes"):
        read_tensors(tmp_path / "x.pt")


HUGE = b"\x8a\x06" + (1 << 44).to_bytes(6, "little")


def legacy(pickled: bytes, count: int = 4, keys: bytes = b"]X\x01\x00\x00\x000a") -> bytes:
    """A file before 1.6 with this pickle and one storage of four float32 that says it has `count`."""
    magic, version, system = (pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return magic + version + system + pickled + b"\x80\x02" + keys + b"." + struct.pack("<q", count) + bytes(16)


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%b%btQ"


def one_tensor(
    count: bytes = b"K\x04", size: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85", view: bytes = b"N"
) -> bytes:
    storage = STORAGE % (count, view)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + size + stride + b"\x89NtR."


def test_the_hand_made_old_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(legacy(one_tensor()))
    assert torch.equal(read(read_tensors(tmp_path / "x")), torch.zeros(4))
    (tmp_path / "x").write_bytes(legacy(one_tensor(size=b"K\x02\x85", view=b"(X\x01\x00\x00\x00vK\x01K\x02t")))
    assert torch.equal(read(read_tensors(tmp_path / "x")), torch.zeros(2))


@pytest.mark.parametrize(
    "content",
    [
        legacy(one_tensor(HUGE)),
        legacy(one_tensor(b"K\x05"), 5),
        legacy(one_tensor(), 3),
        legacy(one_tensor(size=HUGE + b"\x85")),
        legacy(one_tensor(size=HUGE + b"\x85", stride=b"K\x00\x85")),
        legacy(one_tensor(size=b"K\x05\x85")),
        legacy(one_tensor(size=b"K\x02\x85", stride=b"K\x04\x85")),
        legacy(one_tensor(size=b"K\x02K\x02\x86")),
        legacy(one_tensor(view=b"(X\x01\x00\x00\x00vK\x03K\x02t")),
        legacy(one_tensor(view=b"K\x01")),
        legacy(one_tensor(), keys=b"]"),
        legacy(one_tensor(), keys=b"](X\x01\x00\x00\x000X\x01\x00\x00\x001e"),
        legacy(b"\x80\x02" + b"X\xff\xff\xff\x7fx."),
        legacy(one_tensor(), keys=b"])q\x00" + b"h\x00\x86q\x00" * 60 + b"a"),  # a key whose text would be endless
        legacy(b"\x80\x02]" + b"\x85" * 50000 + b"K\x01s."),
    ],
)
def test_old_files_that_claim_too_much_are_damaged_at_no_cost(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DamagedError):
        read(read_tensors(tmp_path / "x"))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}, "8 bytes for the shape"),
        ({"dtype": "F32", "shape": [2, 1 << 60], "data_offsets": [0, 8]}, "8 bytes for the shape"),
        ({"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}, "no whole number"),
        ({"dtype": "F32", "shape": [1.5], "data_offsets": [0, 6]}, "no whole number"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "overlap, or leave"),
        ({"dtype": "F32", "shape": [2]}, "data_offsets"),
        ([1], "damaged"),
    ],
)  # fmt: skip
def test_safetensors_that_do_not_add_up(tmp_path: Path, entry: Any, error: str) -> None:
    write_safetensors(tmp_path / "x", {"first": torch.ones(2)}, first=entry)
    with pytest.raises(DamagedError, match=error):
        read_tensors(tmp_path / "x")


def test_safetensors_of_kinds_that_are_no_weights(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x", {}, first={"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]})
    with pytest.raises(CheckpointError, match="first is F8_E4M3"):
        read_tensors(tmp_path / "x")
    (tmp_path / "x").write_bytes(struct.pack("<Q", 1 << 39) + b"{" + bytes(100))
    with pytest.raises(DamagedError, match="its header claims"):
        read_tensors(tmp_path / "x")
    (tmp_path / "x").write_bytes(struct.pack("<Q", 30000) + b'{"a":' + b"[" * 29995)
    with pytest.raises(DamagedError):
        read_tensors(tmp_path / "x")


def test_names_that_python_2_wrote(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(legacy(b"\x80\x02}U\x01w" + one_tensor()[2:-1] + b"s."))
    assert equal(read(read_tensors(tmp_path / "x")), {b"w": torch.zeros(4)})

"""Tensors in files that other programs wrote: torch.save's of any version, with whatever trainers put in, safetensors.

A checkpoint of Lightning or mmcv holds more than tensors: settings, callbacks, NumPy's numbers. torch.load refuses such
a file or runs the code that it names; `tensor_pickle` calls nothing. Tensors stay in the file until they are read, so
that an optimiser's state costs nothing.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch

from .errors import CheckpointError
from .tensor_pickle import Storages, StoredTensor, Tensors, exactly, text_of
from .text import parse_json
from .torch_archive import RefusedError, check_entries
from .torch_files import DamagedError, check_whole

SAFETENSORS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
MAX_HEADER = 100_000_000  # bytes of a safetensors header, the limit of its own readers
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6: its magic number, pickled
_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    b"<!doctype html": "a web page, saved in the place of the file: download it anew",
    b"<html": "a web page, saved in the place of the file: download it anew",
    b"\x89hdf\r\n": "an HDF5 file (Keras): PyTorch weights are needed, or the model as .onnx",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"bzh": "compressed by bzip2: unpack it",
    b"\xfd7zxz\0": "compressed by xz: unpack it",
    b"7z\xbc\xaf": "an archive of 7-Zip: unpack it",
    b"rar!": "an archive of RAR: unpack it",
    b"\x93numpy": "an array of NumPy: PyTorch weights are needed",
    b"\x12\x01\0\0\0\0\0\0": "a .params file of MXNet: convert the model to ONNX and give the .onnx file",
}


def read_tensors(path: str | Path) -> Any:
    """What a file of weights holds: dicts, lists, tuples and plain values, with a `StoredTensor` for each tensor.

    Args:
        path: a file of torch.save, of any version from 0.2 on, or a safetensors file; told apart by its bytes.

    Raises:
        CheckpointError: the file is absent, holds code, or is of another kind; says which and what to do.
        DamagedError: it is cut short or changed.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is a folder, no file" if path.is_dir() else f"{path} does not exist")
    try:
        with open(path, "rb") as file:
            start = file.read(1024)
            if start.startswith(b"PK\x03\x04"):
                return _read_archive(path, file)
            if start.startswith(_LEGACY):
                return _guarded(path, lambda: _read_legacy(path, file))
            if start[8:9] == b"{" and start[5:8] == bytes(3):  # the header's length, eight bytes, and its first one
                return _guarded(path, lambda: _read_safetensors(path, file))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
    _tell(path, start)


def _tell(path: Path, start: bytes) -> NoReturn:
    """Raise what a file is that is of no kind that can be read."""
    what = next((text for head, text in _STARTS.items() if start.lstrip().lower().startswith(head)), None)
    if start[257:262] == b"ustar":
        what = "a tar archive: unpack it"
    elif start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        what = (
            "a pickle that torch.save did not write, and loading it can run any code: save a state dict by torch.save"
        )
    elif start[:1] == b"\x08" and start[2:3] in (b"\x12", b"\x1a", b"\x3a", b"\x42") and start[1] < 32:
        what = "an ONNX file: such a file is read where its name ends in .onnx"
    elif path.suffix in (".onnx", ".h5", ".tflite", ".npz"):
        what = f"no PyTorch weights by its name ({path.suffix})"
    if what:
        raise CheckpointError(f"{path} is {what}")
    size = path.stat().st_size
    raise DamagedError(f"{path} is damaged, or no file of torch.save or safetensors: {size} bytes of no known format")


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (CheckpointError, OSError):
        raise
    except RefusedError as error:
        raise _refusal(path, error) from error
    except Exception as error:  # a damaged pickle can fail in almost any way
        reason = (str(error).splitlines() or [""])[0]
        raise DamagedError(f"{path} is damaged: {reason or type(error).__name__}") from error


def _refusal(path: Path, error: RefusedError, pickled: bytes = b"") -> CheckpointError:
    """What is said of a file that asks for code."""
    if b"_parameters" in pickled and b"_modules" in pickled:
        return CheckpointError(
            f"{path} holds a whole module, not its weights ({error}): such a file runs code when it is loaded. Where "
            f"its code is, and if you trust it: torch.save(torch.load({path.name!r}, weights_only=False).state_dict(), "
            "'weights.pt')"
        )
    return CheckpointError(
        f"{path} is refused: {error}, and such a file can run any code when it is loaded. A checkpoint holds tensors, "
        "numbers, strings and dicts or lists of them"
    )


# --- torch.save since 1.6: a ZIP archive ------------------------------------------------------------------------------


def _read_archive(path: Path, file: BinaryIO) -> Any:
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            names = [entry.filename for entry in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = []  # for check_whole to say
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise CheckpointError(
            f"{path} is a TorchScript archive (torch.jit.save), which is code: export its state dict with "
            f"torch.save(torch.jit.load({path.name!r}, map_location='cpu').state_dict(), 'weights.pt')"
        )
    exported = any(name.startswith("models/") and name.endswith(".json") for name in inner)
    if exported or "archive_format" in inner or "serialized_exported_program.json" in names:  # the last before 2.8
        raise CheckpointError(
            f"{path} is an exported program (torch.export.save): save its state dict with "
            f"torch.save(dict(torch.export.load({path.name!r}).state_dict), 'weights.pt')"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} is an archive of NumPy arrays (.npz): PyTorch weights are needed")
    if names and not any(name.endswith("data.pkl") for name in names):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise CheckpointError(f"{path} is a ZIP archive, but none of torch.save ({shown}): unpack it")
    check_whole(path)
    return _guarded(path, lambda: _unpickled_archive(path, file))


def _unpickled_archive(path: Path, file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        check_entries(archive, file.seek(0, io.SEEK_END))
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if len({entry.filename.partition("/")[0] for entry in archive.infolist()}) != 1 or "data.pkl" not in entries:
            raise ValueError("it is no archive of torch.save: data.pkl is not in its one folder")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise CheckpointError(f"{path} was written by a big-endian machine: save it anew on this one")
        pickled = archive.read(entries["data.pkl"])
        places = {
            name.removeprefix("data/"): (_first_byte(file, entry), entry.file_size)
            for name, entry in entries.items()
            if name.startswith("data/")
        }
    try:
        return Tensors(io.BytesIO(pickled), Storages(path, places)).load()
    except RefusedError as error:
        raise _refusal(path, error, pickled) from error


def _first_byte(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's content begins: after its local header, whose names may be longer than the directory's."""
    file.seek(entry.header_offset)
    header = file.read(30)
    name, extra = struct.unpack("<26x2H", header)
    return int(entry.header_offset + 30 + name + extra)


# --- torch.save before 1.6: pickles, then the storages one after the other --------------------------------------------


def _read_legacy(path: Path, file: BinaryIO) -> Any:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    storages = Storages(path, {})
    claimed: dict[str, tuple[torch.dtype, int]] = {}
    bounded = _Bounded(file, size)
    try:
        _, version, system, value, keys = (Tensors(bounded, storages, claimed).load() for _ in range(5))
    except RefusedError as error:
        file.seek(0)
        raise _refusal(path, error, file.read(min(size, 1 << 22))) from error
    if version != 1001 or not isinstance(system, dict) or not isinstance(keys, list):
        raise ValueError("it says another version of the format before PyTorch 1.6 than 1001")
    if not system.get("little_endian", system.get(b"little_endian", True)):
        raise CheckpointError(f"{path} was written by a big-endian machine: save it anew on this one")
    names = [text_of(key) for key in keys]
    if len(set(names)) != len(names) or set(names) != claimed.keys():
        raise ValueError("the storages at its end are not those of its tensors")
    for key in names:
        dtype, items = claimed[key]
        (count,) = struct.unpack("<q", exactly(path, file, 8))
        start, length = file.tell(), items * dtype.itemsize
        if count != items:
            raise ValueError(f"the storage {key!r:.40} has {count} items, not {items}")
        if start + length > size:
            raise DamagedError(f"{path} is cut short: its {size} bytes end within the storage {key!r:.40}")
        storages.places[key] = (start, length)
        file.seek(start + length)
    if file.tell() != size:
        raise ValueError(f"{size - file.tell()} bytes follow its last storage")
    return value


class _Bounded:
    """A file for the unpickler that allocates no more than the file has, whatever length is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, length: int) -> bytes:
        return self._file.read(min(length, self._size - self._file.tell()))

    def readline(self) -> bytes:
        return self._file.readline()


# --- safetensors: a JSON header, then the tensors ---------------------------------------------------------------------


def _read_safetensors(path: Path, file: BinaryIO) -> dict[str, StoredTensor]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    (length,) = struct.unpack("<Q", exactly(path, file, 8))
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    if 8 + length > size:
        raise DamagedError(f"{path} is cut short: its {size} bytes end within a header of {length}")
    header = parse_json(exactly(path, file, length).decode(), path)
    bytes_of = Storages(path, {"": (8 + length, size - 8 - length)})
    tensors: dict[str, StoredTensor] = {}
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (begin, end) = SAFETENSORS.get(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"]
        if dtype is None:
            raise CheckpointError(
                f"{path}: {name} is {entry['dtype']}; weights are float64, float32, float16 or bfloat16"
            )
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            raise ValueError(f"{name} has a shape or place that is no whole number")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} has {end - begin} bytes for the shape {shape}")
        spans.append((begin, end))
        tensors[name] = StoredTensor(bytes_of, "", begin, dtype, shape, _contiguous(shape))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ValueError("its tensors overlap, or leave bytes between them")
        at = end
    if 8 + length + at > size:
        raise DamagedError(f"{path} is cut short: its {size} bytes lack {8 + length + at - size}")
    if 8 + length + at != size:
        raise ValueError(f"{size - 8 - length - at} bytes follow its last tensor")
    return tensors


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))

"""Tensors in files that other programs wrote: torch.save's of any version, with whatever trainers put in, safetensors.

A checkpoint of Lightning or mmcv holds more than tensors: settings, callbacks, NumPy's numbers. torch.load refuses such
a file or runs the code that it names. Here nothing is called: what is no tensor and no plain value becomes a `Foreign`,
which does nothing, where it is of a package that trainers are known to save from; else the file is refused. Tensors
stay in the file until they are read, so that an optimiser's state costs nothing.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch

from .errors import CheckpointError
from .safe_pickle import Opcodes
from .torch_archive import KEY_TYPES, OPCODES, REBUILDING, Outline, RefusedError, check_entries, refuse_opcode
from .torch_files import DamagedError, check_whole

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}  # fmt: skip
SAFETENSORS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
MAX_HEADER = 100_000_000  # bytes of a safetensors header, the limit of its own readers
# Top-level packages, and single names, that trainers save beside the weights; none of it is ever imported or called.
INERT_PACKAGES = frozenset(
    "argparse datetime easydict fastai lightning lightning_fabric lightning_utilities mmcv mmengine numpy omegaconf "
    "pytorch_lightning timm typing yacs".split()
)
INERT_NAMES = frozenset(
    [("_codecs", "encode"), ("collections", "defaultdict"), ("collections", "deque"), ("torch", "device")]
    + [("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")]
    + [(module, name) for module in ("builtins", "__builtin__") for name in "bool bytes complex dict float frozenset "
       "int list object range set slice str tuple unicode long".split()]
)  # fmt: skip
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


class Storages:
    """Where the storages of a file are.

    Attributes:
        path: the file.
        places: first byte and number of bytes, by key.
    """

    def __init__(self, path: Path, places: dict[str, tuple[int, int]]) -> None:
        self.path, self.places = path, places

    def read(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes of a storage from `start` on."""
        with open(self.path, "rb") as file:
            file.seek(self.places[key][0] + start)
            return _exactly(self.path, file, length)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
        file: the file's storages.
        key: which of them.
        start: bytes of the storage before its first number.
        dtype: of its numbers.
        shape: sides.
        stride: numbers from one index to the next.
    """

    file: Storages
    key: str
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> torch.Tensor:
        """The tensor, with a memory of its own."""
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        last = sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))
        raw = bytearray(self.file.read(self.key, self.start, (last + 1) * self.dtype.itemsize))
        flat = torch.frombuffer(raw, dtype=torch.uint8)
        flat = flat.bool() if self.dtype == torch.bool else flat.view(self.dtype)
        return flat.as_strided(self.shape, self.stride).contiguous()


class Foreign:
    """Something that is neither a tensor nor a plain value; nothing is known of it but its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: object) -> Foreign:
        return Foreign(self.name)

    def __setstate__(self, state: object) -> None:
        """What it held is forgotten."""

    def __setitem__(self, key: object, value: object) -> None:
        """What it held is forgotten."""

    def append(self, value: object) -> None:
        """What it held is forgotten."""

    def __repr__(self) -> str:
        return f"<{self.name}>"


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
        return _Tensors(io.BytesIO(pickled), Storages(path, places)).load()
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
        _, version, system, value, keys = (_Tensors(bounded, storages, claimed).load() for _ in range(5))
    except RefusedError as error:
        file.seek(0)
        raise _refusal(path, error, file.read(min(size, 1 << 22))) from error
    if version != 1001 or not isinstance(system, dict) or not isinstance(keys, list):
        raise ValueError("it says another version of the format before PyTorch 1.6 than 1001")
    if not system.get("little_endian", system.get(b"little_endian", True)):
        raise CheckpointError(f"{path} was written by a big-endian machine: save it anew on this one")
    names = [_text(key) for key in keys]
    if len(set(names)) != len(names) or set(names) != claimed.keys():
        raise ValueError("the storages at its end are not those of its tensors")
    for key in names:
        dtype, items = claimed[key]
        (count,) = struct.unpack("<q", _exactly(path, file, 8))
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
    (length,) = struct.unpack("<Q", _exactly(path, file, 8))
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    if 8 + length > size:
        raise DamagedError(f"{path} is cut short: its {size} bytes end within a header of {length}")
    header = json.loads(_exactly(path, file, length))
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


# --- the pickle of torch.save -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """A storage's class."""

    dtype: torch.dtype


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    first: int  # items of the file's storage before this one, a view of it
    count: int


class _Tensors(Outline):
    """The value of a pickle, with tensors as `StoredTensor`.

    Args:
        file: with `read` and `readline`.
        storages: of the file; those before 1.6 are known only after the pickle.
        claimed: filled with the kind and length of each storage that the pickle names, where its length is not known;
            None: `storages` knows.
    """

    def __init__(
        self, file: Any, storages: Storages, claimed: dict[str, tuple[torch.dtype, int]] | None = None
    ) -> None:
        super().__init__(file, {})
        self._storages, self._claimed = storages, claimed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("collections", "Counter"):
            return Counter
        if module in ("torch", "torch.storage") and name in STORAGES:
            return _Kind(STORAGES[name])
        if module == "torch._utils" and name in (*REBUILDING, "_rebuild_tensor"):
            return self._parameter if name == "_rebuild_parameter" else self._tensor
        if module == "torch" and name == "Size":
            return _size
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        if (module, name) in INERT_NAMES or module.partition(".")[0] in INERT_PACKAGES:
            return Foreign(f"{module}.{name}")
        if module.startswith("torch.optim."):
            return Foreign(f"{module}.{name}")
        raise RefusedError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
            if isinstance(pid, tuple) and pid[:1] in (("module",), (b"module",)):  # before 1.6: a class and its source
                raise RefusedError("it holds a whole module, which is code: save its state_dict()")
            raise ValueError("one of its tensors has no storage")
        _, kind, key, _, count, *view = pid
        key = _text(key)
        if not isinstance(kind, _Kind) or type(count) is not int or count < 0:
            raise ValueError(f"the storage {key!r:.40} has no type or no length")
        if self._claimed is not None:
            if self._claimed.setdefault(key, (kind.dtype, count)) != (kind.dtype, count):
                raise ValueError(f"the storage {key!r:.40} has two lengths")
        else:
            _, held = self._storages.places.get(key, (0, None))
            if held != count * kind.dtype.itemsize:
                raise ValueError(
                    f"the storage {key!r:.40} has {held} bytes, not {count} items of {kind.dtype.itemsize}"
                )
        if view and view[0] is not None:
            _, first, part = view[0]
            if not (type(first) is type(part) is int and first >= 0 <= part and first + part <= count):
                raise ValueError(f"a part of the storage {key!r:.40} lies outside of it")
            return _Storage(key, kind.dtype, first, part)
        return _Storage(key, kind.dtype, 0, count)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *more: Any) -> StoredTensor:
        """_rebuild_tensor, and its second (more: requires_grad, hooks) and third version (and dtype)."""
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise ValueError("one of its tensors has no storage or no shape")
        dtype = next((one for one in more if isinstance(one, torch.dtype)), storage.dtype)
        numbers = (offset, *shape, *stride)
        if len(shape) != len(stride) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("one of its tensors has a shape or place that is no whole number")
        held = storage.count * storage.dtype.itemsize // dtype.itemsize
        last = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
        if math.prod(shape) and (last >= held or math.prod(shape) > held):
            raise ValueError(f"one of its tensors, {shape}, lies outside of its storage of {held}")
        start = storage.first * storage.dtype.itemsize + offset * dtype.itemsize
        return StoredTensor(self._storages, storage.key, start, dtype, shape, stride)

    @staticmethod
    def _parameter(tensor: Any, *_: Any) -> StoredTensor:
        if not isinstance(tensor, StoredTensor):
            raise ValueError("one of its parameters is no tensor")
        return tensor

    def _check_key(self, key: object) -> None:
        if not isinstance(key, (*KEY_TYPES, Foreign)):
            raise ValueError(f"a key of one of its dicts is {type(key).__name__}")

    def load_newobj(self) -> None:
        self.stack.pop()
        if not isinstance(self.stack[-1], Foreign):
            raise ValueError("it makes an object of something that is no class")
        self.stack[-1] = self.stack[-1]()

    def load_build(self) -> None:
        """State, of a `Foreign` or of an OrderedDict (its _metadata), is forgotten."""
        self.stack.pop()
        if not isinstance(self.stack[-1], Foreign | OrderedDict):
            raise RefusedError("it changes an object after making it")

    # Protocol 4, for those who ask torch.save for it. No ADDITEMS: sets would hash what is not checked.
    dispatch = Opcodes(
        f"{OPCODES} NEWOBJ FRAME MEMOIZE STACK_GLOBAL SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BINSTRING LONG_BINPUT",
        refuse_opcode,
    )
    dispatch[pickle.SETITEM[0]] = Outline.load_setitem
    dispatch[pickle.SETITEMS[0]] = Outline.load_setitems
    dispatch[pickle.REDUCE[0]] = Outline.load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _size(sides: object = ()) -> tuple[int, ...]:
    """torch.Size; no copy, of which a file could ask for many."""
    if not isinstance(sides, tuple):
        raise ValueError("a size in it is made of something else than a tuple")
    return sides


def _text(key: object) -> str:
    """The key of a storage; one that Python 2 wrote is bytes. Of a nested tuple the text alone could be endless."""
    if not isinstance(key, str | bytes):
        raise ValueError(f"the key of a storage is {type(key).__name__}")
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _exactly(path: Path, file: Any, length: int) -> bytes:
    found: bytes = file.read(length)
    if len(found) != length:
        raise DamagedError(f"{path} is cut short: {length - len(found)} bytes are missing")
    return found

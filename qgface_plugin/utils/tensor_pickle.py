"""Tensors in a pickle of torch.save, of any version and with whatever trainers put beside them; no code is run.

What is no tensor and no plain value becomes a `Foreign`, which does nothing, where it is of a package that trainers are
known to save from; else the file is refused. Tensors stay in the file until they are read.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .safe_pickle import Opcodes
from .torch_archive import KEY_TYPES, OPCODES, REBUILDING, Outline, RefusedError, refuse_opcode
from .torch_files import DamagedError

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}  # fmt: skip
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
            return exactly(self.path, file, length)


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


class Tensors(Outline):
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

    def for_rebuilding(self, name: str) -> Any:
        if name == "_rebuild_parameter":
            return self._parameter
        return self._tensor if name in (*REBUILDING, "_rebuild_tensor") else None

    def for_storage(self, name: str) -> Any:
        return _Kind(STORAGES[name]) if name in STORAGES else None

    def for_value(self, name: str) -> Any:
        found = _size if name == "Size" else getattr(torch, name, None)
        return found if name == "Size" or isinstance(found, torch.dtype) else None

    def for_other(self, module: str, name: str) -> Any:
        known = (module, name) in INERT_NAMES or module.partition(".")[0] in INERT_PACKAGES
        return Foreign(f"{module}.{name}") if known or module.startswith("torch.optim.") else None

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
            if isinstance(pid, tuple) and pid[:1] in (("module",), (b"module",)):  # before 1.6: a class and its source
                raise RefusedError("it holds a whole module, which is code: save its state_dict()")
            raise ValueError("one of its tensors has no storage")
        _, kind, key, _, count, *view = pid
        key = text_of(key)
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


def text_of(key: object) -> str:
    """The key of a storage; one that Python 2 wrote is bytes. Of a nested tuple the text alone could be endless."""
    if not isinstance(key, str | bytes):
        raise ValueError(f"the key of a storage is {type(key).__name__}")
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def exactly(path: Path, file: Any, length: int) -> bytes:
    """`length` bytes of an open file; DamagedError where it has fewer."""
    found: bytes = file.read(length)
    if len(found) != length:
        raise DamagedError(f"{path} is cut short: {length - len(found)} bytes are missing")
    return found

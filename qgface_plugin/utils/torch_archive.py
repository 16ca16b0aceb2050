"""Archives of torch.save: what one claims to hold, checked before torch.load believes it.

torch.load allocates what the file asks for: a compressed entry expands, a pickled call makes as many bytes as it is
told to, and a tensor is as long as the pickle says, whatever its entry holds, which reads memory that is not the
file's. So the archive's entries and the outline of the pickle are looked at first, with no tensor made, nothing called.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from .errors import CheckpointError
from .safe_pickle import Opcodes

OPCODES = """
    PROTO STOP MARK GLOBAL REDUCE BUILD EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT
    SETITEM SETITEMS EMPTY_SET NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT LONG1 BINUNICODE SHORT_BINSTRING
    BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT
"""
ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip
REBUILDING = {"_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"}
PLAIN_FLAGS = 0x0808  # name in UTF-8, CRC after the content
FOLDER = 0x10  # of an entry's attributes
KEY_TYPES = (str, bytes, int, float, type(None))  # of dicts; hashing a tuple nested deeply enough ends the process


class RefusedError(ValueError):
    """The pickle asks for something that is neither a tensor nor a plain value; the text is what."""


def check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Check that every entry is a file stored as it is, under a name of its own, and that all fit into the size.

    torch.load takes an entry that is marked as a folder for read, and gives whatever was in memory before.

    Args:
        archive: the archive, whose entries are not read.
        size: its bytes.

    Raises:
        ValueError: An entry is anything else; the message says which and what.
    """
    entries, total = archive.infolist(), 0
    for entry in entries:
        total += entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f"its entry {entry.filename!r} is compressed, which torch.save never does")
        if entry.flag_bits & ~PLAIN_FLAGS or entry.external_attr & FOLDER or entry.filename.endswith("/"):
            raise ValueError(f"its entry {entry.filename!r} is no plain file")
    if total > size:
        raise ValueError(f"its entries claim {total} bytes in a file of {size}")
    if len({entry.filename.lower() for entry in entries}) != len(entries):
        raise ValueError("two of its entries have one name")


def check_outline(file: IO[bytes], path: Path) -> None:
    """Check that a file holds tensors of the sizes it claims, and plain values, and nothing else.

    Args:
        file: the file, open for reading.
        path: its name, for messages.

    Raises:
        CheckpointError: It asks for something else; the message names it.
        ValueError: It is damaged. So is one that raises any other Exception.
    """
    with zipfile.ZipFile(file) as archive:
        check_entries(archive, file.seek(0, io.SEEK_END))
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in archive.infolist()}
        if len({entry.filename.partition("/")[0] for entry in archive.infolist()}) != 1 or "data.pkl" not in sizes:
            raise ValueError("it is no archive of torch.save: data.pkl is not in its one folder")
        pickled = archive.read(archive.infolist()[0].filename.partition("/")[0] + "/data.pkl")
    try:
        Outline(io.BytesIO(pickled), sizes).load()
    except RefusedError as error:
        raise CheckpointError(
            f"{path} is refused: {error}, and such a file can run any code when it is loaded. A checkpoint holds "
            "tensors, numbers, strings and dicts or lists of them"
        ) from error


class _Part:
    """Stands for a tensor, a storage, a size or a dtype. BUILD, which would change one, is refused."""

    def __init__(self, *_: object) -> None:
        self.item_bytes = 0

    def __setstate__(self, state: object) -> None:
        raise RefusedError("it changes an object after making it")


def refuse_opcode(code: str) -> RefusedError:
    """The error for an opcode that no file of torch.save needs."""
    return RefusedError(f"it uses pickle opcode {code!r}")


def _storage(name: str) -> _Part:
    part = _Part()
    part.item_bytes = ITEM_BYTES[name]
    return part


_set_item: Callable[[Any], None] = pickle._Unpickler.dispatch[pickle.SETITEM[0]]
_set_items: Callable[[Any], None] = pickle._Unpickler.dispatch[pickle.SETITEMS[0]]


class Outline(pickle._Unpickler):
    """The outline of a pickle of torch.save: its dicts and lists, with nothing in the place of tensors.

    Args:
        file: the pickle, with `read` and `readline`.
        sizes: bytes of each of the archive's entries.
    """

    stack: list[Any]

    def __init__(self, file: Any, sizes: dict[str, int]) -> None:
        super().__init__(file, encoding="bytes")
        self._sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name: never what it names, but for two dicts; a name that nothing stands for is refused."""
        found = None
        if module == "collections":
            found = {"OrderedDict": OrderedDict, "Counter": Counter}.get(name)
        elif module == "torch._utils":
            found = self.for_rebuilding(name)
        elif module in ("torch", "torch.storage"):
            found = self.for_storage(name)
        if found is None and module == "torch":
            found = self.for_value(name)
        if found is None:
            found = self.for_other(module, name)
        if found is None:
            raise RefusedError(f"it asks for {module}.{name}")
        return found

    def for_rebuilding(self, name: str) -> Any:
        """What stands for a function of torch._utils; None for those that no file of torch.save needs."""
        return _Part if name in REBUILDING else None

    def for_storage(self, name: str) -> Any:
        """What stands for a storage's class; None for other names."""
        return _storage(name) if name in ITEM_BYTES else None

    def for_value(self, name: str) -> Any:
        """What stands for a size or a dtype of torch; None for other names."""
        known = name in ("Size", "device") or name.startswith(("float", "bfloat", "int", "uint"))
        return _Part if known else None

    def for_other(self, module: str, name: str) -> Any:
        """What stands for anything else; None, as nothing else is in our own files."""
        return None

    def persistent_load(self, pid: Any) -> _Part:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] not in ("storage", b"storage"):
            raise ValueError("one of its tensors has no storage")
        _, kind, key, _, count = pid
        if not isinstance(key, str | int):  # of a nested tuple the text alone could be endless
            raise ValueError(f"the key of a storage is {type(key).__name__}")
        if not isinstance(kind, _Part) or kind.item_bytes == 0 or type(count) is not int or count < 0:
            raise ValueError(f"the storage {key!r:.40} has no type or no length")
        held = self._sizes.get(f"data/{key}")
        if held is None or count * kind.item_bytes != held:
            raise ValueError(f"the storage {key!r:.40} has {held} bytes, not {count} items of {kind.item_bytes}")
        return _Part()

    def load_setitem(self) -> None:
        self._check_key(self.stack[-2])
        _set_item(self)

    def load_setitems(self) -> None:
        for key in self.stack[0::2]:
            self._check_key(key)
        _set_items(self)

    def _check_key(self, key: object) -> None:
        if not isinstance(key, KEY_TYPES):
            raise ValueError(f"a key of one of its dicts is {type(key).__name__}")

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if function is Counter:  # of a dict, whose keys are checked; anything else would be hashed here
            arguments = tuple(dict(item) for item in arguments)
        elif function is OrderedDict and arguments:
            raise ValueError("an OrderedDict is made of something else than its items")
        self.stack[-1] = function(*arguments)

    dispatch = Opcodes(OPCODES, refuse_opcode)
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.REDUCE[0]] = load_reduce

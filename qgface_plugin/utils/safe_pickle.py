"""Pickles of plain values only: lists, tuples, numbers, text, bytes and arrays of whole numbers or bools.

No class or function of the file's choosing is ever called: opcodes that build other objects are refused, and the few
names that NumPy's and Python 2's pickles contain stand for functions of this file.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DataError

OPCODES = """
    PROTO FRAME STOP MARK MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE INT BININT BININT1
    BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES
    BINBYTES8 BYTEARRAY8
"""
DTYPES = {"b1": np.dtype("?"), **{f"{kind}{size}": np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)}}


class PlainArray:
    """A array of whole numbers or bools in a pickle, still as its parts; `values` checks them and makes the array.

    Example:
        >>> load_plain(pickle.dumps(np.arange(3, dtype=np.uint8)), "example").values()
        array([0, 1, 2], dtype=uint8)
    """

    def __init__(self, raw: object = b"", dtype: object = None, shape: object = (0,), order: object = "C") -> None:
        self.raw, self._dtype, self._shape, self._order = raw, dtype, shape, order

    def __setstate__(self, state: tuple) -> None:
        """NumPy's own state: version, shape, dtype, whether in Fortran's order, content."""
        _, self._shape, self._dtype, fortran, self.raw = state
        self._order = "F" if fortran else "C"

    def values(self) -> np.ndarray:
        """The array, a view of the content; DataError when shape and content do not fit."""
        raw, dtype, shape = self.raw, self._dtype, self._shape
        if not isinstance(raw, bytes) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
            raise DataError("refused: an array without a dtype or with other content than bytes")
        if not all(isinstance(side, int) and side >= 0 for side in shape) or (
            math.prod(shape) * dtype.dtype.itemsize != len(raw)
        ):
            raise DataError(f"refused: an array whose shape does not fit its {len(raw)} bytes of content")
        if dtype.dtype == np.bool_ and np.frombuffer(raw, dtype=np.uint8).max(initial=0) > 1:
            raise DataError("refused: an array of bool with bytes other than 0 and 1")
        return np.frombuffer(raw, dtype=dtype.dtype).reshape(shape, order="F" if self._order in ("F", b"F") else "C")


class _Dtype:
    def __init__(self, name: str | bytes, *_: object) -> None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        if not isinstance(text, str) or text.lstrip("|<") not in DTYPES:
            shown = repr(text[:20]) if isinstance(text, str) else type(text).__name__
            raise DataError(f"refused: an array of dtype {shown}; images are uint8, and flags bool or whole numbers")
        self.dtype = DTYPES[text.lstrip("|<")]

    def __setstate__(self, state: tuple) -> None:
        """NumPy's own state: version, byte order, and what says nothing about plain numbers."""
        if state[1] in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")


def _reconstruct(*_: object) -> PlainArray:
    return PlainArray()


def _scalar(dtype: _Dtype, raw: bytes) -> bool | int:
    return PlainArray(raw, dtype, ()).values().item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise DataError("refused: text in another encoding than latin1")
    return text.encode("latin1")


NAMES = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "numpy.ndarray",  # only ever an argument of _reconstruct
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): PlainArray,
    ("numpy._core.numeric", "_frombuffer"): PlainArray,
}


class Opcodes(dict[int, Any]):
    """The `dispatch` of an unpickler that knows the opcodes of these names and refuses all others.

    For subclasses of Python's unpickler in Python, not of the one in C: its memo is a dict and what it reads is bounded
    by the data, while the one in C allocates whatever sizes and memo indices a file claims.

    Args:
        names: as `pickle` has them, separated by blanks.
        refused: the error for any other opcode, made of its character.

    Example:
        >>> Opcodes("NONE STOP", ValueError)[ord("R")]
        Traceback (most recent call last):
        ValueError: R
    """

    def __init__(self, names: str, refused: Callable[[str], Exception]) -> None:
        codes = [getattr(pickle, name)[0] for name in names.split()]
        super().__init__({code: pickle._Unpickler.dispatch[code] for code in codes})
        self._refused = refused

    def __missing__(self, code: int) -> None:
        raise self._refused(chr(code))


def _refused(code: str) -> DataError:
    return DataError(f"refused: pickle opcode {code!r}, which no pair set needs")


class _PlainUnpickler(pickle._Unpickler):
    read: Callable[[int], bytes]
    append: Callable[[object], None]

    def find_class(self, module: str, name: str) -> object:
        try:
            return NAMES[module, name]
        except KeyError:
            raise DataError(f"refused: the pickle asks for {module}.{name}, which no pair set needs") from None

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    dispatch = Opcodes(OPCODES, _refused)
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def load_plain(data: bytes, where: str) -> object:
    """The value in a pickle of any protocol, by Python 2 or 3; Python 2's `str` becomes bytes, arrays `PlainArray`.

    Args:
        data: the pickle.
        where: the file that it is from, for messages.

    Raises:
        DataError: cut short or damaged, or asking for anything but plain values; the message starts with `where` and
            names what was asked for.
    """
    file = io.BytesIO(data)
    try:
        value = _PlainUnpickler(file, encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    # A hostile or damaged pickle can fail in almost any way inside the unpickler; all of them mean the same here.
    except Exception as error:
        raise DataError(f"{where}: cut short or damaged pickle ({type(error).__name__}: {error})") from error
    if file.tell() != len(data):
        raise DataError(f"{where}: {len(data) - file.tell()} bytes follow the end of the pickle")
    return value

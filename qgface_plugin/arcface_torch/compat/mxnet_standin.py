"""Stand-in for MXNet: what arcface_torch uses of it, served by this project's own reader and decoder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ...data.images import JPEG_SIGNATURE, PNG_SIGNATURE, decode
from ...data.recordio import Header, RecordReader, pack, unpack
from ...utils.errors import DataError
from .repair import Repair, import_failure, install, uses


def repair(checkout: Path) -> Repair:
    """For machines without MXNet, which is retired, and for MXNet 1.9.1 beside NumPy >= 1.24, where it cannot import.

    arcface_torch's `dataset.py` and `eval/verification.py` import it for records, image decoding and three operations
    on images. A MXNet that imports is used.
    """
    return Repair(
        "stand-in for mxnet",
        "mxnet is absent or does not import (1.9.1 fails with NumPy >= 1.24)",
        lambda: uses(checkout, r"import mxnet|from mxnet") and import_failure("mxnet") is not None,
        install_mxnet,
    )


class NDArray:
    """An array as `mxnet.ndarray` has it. Attribute shape: as NumPy's."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape = values.shape

    def asnumpy(self) -> np.ndarray:
        """A copy, C-contiguous."""
        return self._values.copy(order="C")


class MXIndexedRecordIO:
    """Reading of one `.rec` file by key. Attribute keys: a list, in the order of the records in the file.

    Raises DataError for files that cannot be read, and for writing, which is not served.
    """

    def __init__(self, idx_path: str, uri: str, flag: str) -> None:
        if flag != "r":
            raise DataError(f"{uri}: the stand-in for mxnet only reads ('r', not {flag!r}); RecordWriter writes")
        self._reader = RecordReader(uri, idx_path)
        self.keys = self._reader.keys[np.argsort(self._reader.offsets, kind="stable")].tolist()

    def read_idx(self, idx: int) -> memoryview:
        """The record of a key: header and payload. DataError names file, key and offset."""
        return self._reader.read(int(idx))


class Dataset:
    """The base class of `mxnet.gluon`'s data sets, from which `onnx_ijbc.py` derives one for torch's DataLoader."""


def imdecode(buf: bytes | memoryview | np.ndarray) -> NDArray:
    """Encoded JPEG or PNG to RGB uint8 (h, h, 3), in the image's own size. DataError for any other bytes."""
    encoded = np.ascontiguousarray(buf).data if isinstance(buf, np.ndarray) else memoryview(buf)
    return NDArray(decode(encoded, "image", size=_side(encoded)))


def resize_short(src: NDArray, size: int) -> NDArray:
    """Cubically resized so that the shorter side has `size` pixels. Images (h, w, 3)."""
    height, width, _ = src.shape
    shape = (size, size * height // width) if width < height else (size * width // height, size)
    return NDArray(cv2.resize(src.asnumpy(), shape, interpolation=cv2.INTER_CUBIC))


def transpose(data: NDArray, axes: tuple[int, ...] | None = None) -> NDArray:
    """As numpy.transpose."""
    return NDArray(data.asnumpy().transpose(axes))


def flip(data: NDArray, axis: int) -> NDArray:
    """As numpy.flip."""
    return NDArray(np.flip(data.asnumpy(), axis))


def install_mxnet() -> None:
    """Make `import mxnet` find the stand-in."""
    arrays = {"NDArray": NDArray, "transpose": transpose, "flip": flip}
    records = {"MXIndexedRecordIO": MXIndexedRecordIO, "IRHeader": Header, "unpack": unpack, "pack": pack}
    install(
        "mxnet",
        {
            "": {"__version__": "none (stand-in by qgface_plugin)"},
            "recordio": records,
            "image": {"imdecode": imdecode, "resize_short": resize_short},
            "ndarray": arrays,
            "nd": arrays,
            "gluon": {},
            "gluon.data": {"Dataset": Dataset},
        },
    )


def _side(encoded: memoryview) -> int:
    """The height that an image announces: `decode` is asked for it, so that it does not resize."""
    if encoded[:3] == JPEG_SIGNATURE:
        import simplejpeg

        try:
            return simplejpeg.decode_jpeg_header(encoded, strict=False)[0]
        except (ValueError, KeyError) as error:
            raise DataError(f"image: undecodable JPEG of {len(encoded)} bytes ({error})") from error
    return int.from_bytes(encoded[20:24], "big") if encoded[:8] == PNG_SIGNATURE else 112

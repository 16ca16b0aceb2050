"""Lower precision of an ONNX file: weights as float16, or dynamic int8; and what that does to features."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import atomic_path
from .onnx_export import INPUT
from .onnx_model import open_session

PRECISIONS = ("float32", "float16", "int8")


@dataclass(frozen=True)
class Cost:
    """What lower precision did to the features of some images.

    Attributes:
        precision: "float16" or "int8".
        bytes: size of the file.
        bytes_before: of the float32 file.
        images: how many were compared.
        kind: of images, "random" or "real"; random ones are no faces, and only show that the file works.
        lowest_cosine: of a feature with the one in float32.
        median_cosine: the same.
        norm_ratio: median of the norm, the quality, divided by the one in float32.
    """

    precision: str
    bytes: int
    bytes_before: int
    images: int
    kind: str
    lowest_cosine: float
    median_cosine: float
    norm_ratio: float


def lower_precision(path: Path, precision: str, real: np.ndarray | None = None) -> Cost:
    """Convert a float32 file as `export_onnx` writes it; its input and output stay float32.

    Args:
        path: the file, replaced when the new one runs.
        precision: "float16", or "int8": weights as int8 by channel, activations quantised as they come.
        real: uint8 (M, 112, 112, 3) RGB faces to compare on; None: random images.

    Raises:
        ConfigError: another precision, or a package is not installed.
        CheckpointError: features of the new file are not finite or zero.
    """
    if precision not in PRECISIONS[1:]:
        raise ConfigError(f"precision is {precision!r}; it is one of {PRECISIONS}")
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8) if real is None else real
    before, size = _features(path, images), path.stat().st_size
    with atomic_path(path) as temporary:
        (_to_float16 if precision == "float16" else _to_int8)(path, temporary)
        after = _features(temporary, images)
        norms = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
        if not np.isfinite(after).all() or not norms[1].all():
            raise CheckpointError(f"{path}: features in {precision} are zero or not finite; nothing is written")
    cosines = (before * after).sum(axis=1) / norms[0] / norms[1]
    kind = "random" if real is None else "real"
    ratio = float(np.median(norms[1] / norms[0]))
    lowest, median = float(cosines.min()), float(np.median(cosines))
    return Cost(precision, path.stat().st_size, size, len(images), kind, lowest, median, ratio)


def _to_float16(source: Path, target: Path) -> None:
    import onnx

    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise ConfigError(f"float16 needs onnxruntime's transformers tools ({error})") from error
    model = onnx.load(str(source))
    target.write_bytes(convert_float_to_float16(model, keep_io_types=True).SerializeToString())


def _to_int8(source: Path, target: Path) -> None:
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ConfigError(f"int8 needs onnxruntime's quantization tools ({error})") from error
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)  # it advises a pre-processing that a graph of ours does not need
    try:
        quantize_dynamic(str(source), str(target), per_channel=True, weight_type=QuantType.QUInt8)
    finally:
        logger.setLevel(level)


def _features(path: Path, images: np.ndarray) -> np.ndarray:
    """(N, d) float64 of uint8 (N, 112, 112, 3) RGB images."""
    values: Any = ((images.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
    session = open_session(path, torch.device("cpu"))
    found = session.run(None, {INPUT: np.ascontiguousarray(values)})[0]
    return np.asarray(found, dtype=np.float64)

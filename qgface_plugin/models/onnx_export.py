"""Export of an encoder as ONNX, by the contract that InsightFace's tools read (docs/export.md).

One input `data`, N x 3 x 112 x 112 float32, RGB, already normalised by (x - 127.5) / 127.5; N is free. One output
`embedding`, N x d float32: the raw feature, whose norm is its quality. One file, without external data.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data.bin_files import read_bin
from ..data.image_files import list_photos, read_image
from ..data.images import decode
from ..data.pair_dataset import normalise
from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import atomic_path
from ..utils.sampling import evenly_spaced
from .embeddings import evaluating

INPUT, OUTPUT, BATCH = "data", "embedding", "N"
SIDE = 112
OPSETS = (11, 20)  # what the exporter writes
TOLERANCE = 1e-5
# ArcFaceONNX and arcface_torch's onnx_helper take nodes of these names among the first eight for a normalisation
NORMALISING_NAMES = ("Sub", "_minus", "Mul", "_mul", "Div")


@dataclass(frozen=True)
class Comparison:
    """The graph against PyTorch on one batch.

    Attributes:
        images: what was compared, "random" or "real".
        batch: images in the batch.
        absolute: largest difference of any number in the features, which may be of any size.
        difference: the same with every row divided by the norm of PyTorch's feature, which makes embeddings of unit
            length of them; the 1e-5 of the contract is for this one.
    """

    images: str
    batch: int
    absolute: float
    difference: float


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        file: its path.
        bytes: its size.
        embedding_size: d.
        opset: version of ONNX's operators.
        comparisons: what it has passed.
        metadata: text that the file holds.
    """

    file: str
    bytes: int
    embedding_size: int
    opset: int
    comparisons: list[Comparison]
    metadata: dict[str, str]


def export_onnx(
    backbone: nn.Module,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    real: np.ndarray | None = None,
    opset: int = OPSETS[0],
) -> ExportReport:
    """Write the encoder to `path` and compare the file with PyTorch; it gets its name only when they agree.

    Args:
        backbone: (N, 3, 112, 112) float32 -> (N, d) float32, on the CPU; it is left in the mode it was in.
        metadata: text to keep in the file beside versions, colour and normalisation.
        real: uint8 (M, 112, 112, 3) RGB faces to compare on, beside random images.
        opset: version of ONNX's operators, 11 to 20.

    Raises:
        ConfigError: a name that does not end in .onnx, an opset out of range, or a package that is not installed.
        CheckpointError: features that are not finite, or a graph whose embeddings of unit length differ from PyTorch's
            by more than 1e-5.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: the name of an ONNX file ends in .onnx")
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ConfigError(f"opset is {opset}; it is a whole number from {OPSETS[0]} to {OPSETS[1]}")
    onnx, onnxruntime = _packages()
    with atomic_path(path) as temporary, evaluating(backbone):
        _write_graph(backbone, temporary, opset)
        model = onnx.load(str(temporary))
        whole = {**_own_metadata(opset), **(metadata or {})}
        _finish(onnx, model, whole)
        onnx.checker.check_model(model)
        temporary.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(temporary.read_bytes(), providers=["CPUExecutionProvider"])
        comparisons = _compare(backbone, session, path, real)
    size = session.get_outputs()[0].shape[1]
    return ExportReport(str(path), path.stat().st_size, size, opset, comparisons, whole)


def _write_graph(backbone: nn.Module, path: Path, opset: int) -> None:
    """PyTorch's TorchScript-based exporter: the one based on torch.export writes only opset 18 and IR version 10, which
    onnxruntime reads from 1.18 on, converts them down only in part, needs onnxscript, and takes ten times as long."""
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings(
                "ignore", "Constant folding"
            )  # of the padding of an imported graph: it is not needed
            graph = io.BytesIO()  # PyTorch refuses the name of a file that is no UTF-8
            torch.onnx.export(
                backbone,
                (torch.zeros(2, 3, SIDE, SIDE),),
                graph,  # type: ignore[arg-type] # a file does, when dynamo is off
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
                opset_version=opset,
                dynamo=False,
            )
            path.write_bytes(graph.getvalue())
    finally:
        exporter_log.setLevel(level)


def _finish(onnx: Any, model: Any, metadata: Mapping[str, str]) -> None:
    """Metadata, and names by which no reader takes the graph's first nodes for a normalisation."""
    for node in model.graph.node[:8]:
        if node.name.startswith(NORMALISING_NAMES):
            node.name = f"/{node.name}"
    onnx.helper.set_model_props(model, dict(metadata))


def _compare(backbone: nn.Module, session: Any, path: Path, real: np.ndarray | None) -> list[Comparison]:
    generator = torch.Generator().manual_seed(0)
    batches = [
        ("random", torch.rand(count, 3, SIDE, SIDE, generator=generator) * 2 - 1) for count in (1, 3)
    ]  # (N, 3, 112, 112) in [-1, 1]
    if real is not None:
        batches.append(("real", normalise(torch.from_numpy(real).permute(0, 3, 1, 2))))
    comparisons = []
    for images, batch in batches:
        with torch.inference_mode():
            expected = backbone(batch).float().numpy()
        found = session.run(None, {INPUT: batch.numpy()})[0]
        norms = np.linalg.norm(expected, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise CheckpointError(f"{path}: features of {images} images are zero or not finite; nothing is written")
        apart = np.abs(found - expected)
        comparison = Comparison(images, len(batch), float(apart.max()), float((apart / norms).max()))
        if not comparison.difference <= TOLERANCE:
            raise CheckpointError(
                f"{path}: on {len(batch)} {images} images the graph's embeddings of unit length differ from PyTorch's "
                f"by {comparison.difference:.3g}, more than {TOLERANCE:g}; nothing is written. Try another --opset"
            )
        comparisons.append(comparison)
    return comparisons


def _own_metadata(opset: int) -> dict[str, str]:
    from .. import __version__

    return {
        "qgface_plugin": __version__,
        "torch": torch.__version__,
        "opset": str(opset),
        "color": "RGB",
        "mean": "127.5",
        "std": "127.5",
        "output": "raw feature; its norm is the quality, normalise it for comparison",
    }


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"exporting needs {error.name}: pip install onnx onnxruntime") from error
    return onnx, onnxruntime


def sample_faces(path: str | Path, count: int = 8) -> np.ndarray:
    """Aligned faces to try a model on, evenly spaced over a folder's images (at any depth) or over a `.bin` pair set.

    Args:
        path: the folder or the file.
        count: how many at most.

    Returns:
        uint8 (count or fewer, 112, 112, 3) RGB.

    Raises:
        DataError: no such folder or file, nothing in it, or an image that is not an aligned face; names it.
    """
    path = Path(path)
    if not path.is_dir():
        images = read_bin(path).images
        chosen = evenly_spaced(len(images), count)
        return np.stack([decode(images[number], f"{path} image {number}") for number in chosen])
    names = list_photos(path)
    return np.stack([_decode_file(path / names[number]) for number in evenly_spaced(len(names), count)])


def _decode_file(path: Path) -> np.ndarray:
    return decode(read_image(path, f"{path}: "), str(path))

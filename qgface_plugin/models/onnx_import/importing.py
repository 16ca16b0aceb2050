"""Import of an ONNX encoder: read, simplified, recognised where it can be, and compared with onnxruntime."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...utils.errors import CheckpointError, ConfigError
from ..backbones import get_model
from ..embeddings import Embeddings, embed
from ..face_model import NOTHING, Scale
from ..onnx_limits import check_graph
from ..onnx_model import OnnxModel, load_onnx_model, pictures
from ..onnx_normalisation import NEEDED
from .network import GRAPH, KEY, GraphNetwork
from .pixels import with_usual_pixels
from .reading import read_graph
from .recognition import NotThisNetwork, recognised
from .simplification import simplified, without_unit_length
from .structure import Structure

LOGGER = logging.getLogger(__name__)
TOLERANCE, HALF_TOLERANCE = 1e-5, 1e-2  # of a feature's norm; the second for graphs that compute in float16


@dataclass(frozen=True)
class Imported:
    """An ONNX encoder as a network that can be trained.

    Attributes:
        backbone: RGB (N, 3, 112, 112) in [-1, 1] -> raw features (N, d), in evaluation mode on the CPU.
        network: its name here: r18 ... mbf_large, or "graph" where it keeps its graph.
        size: d.
        difference: the largest difference from onnxruntime of any number in a feature, by the feature's norm.
        images: that were compared.
        notes: what else a user has to know, one sentence each.
    """

    backbone: nn.Module
    network: str
    size: int
    difference: float
    images: int
    notes: tuple[str, ...]


def import_onnx(
    path: Path,
    color: str = "rgb",
    scale: Scale | None = None,
    name: str | None = None,
    keep_graph: bool = False,
    features_bias: bool = True,
) -> Imported:
    """The encoder in an ONNX file.

    Args:
        path: the file.
        color: the order of channels that it was trained on, "rgb" or "bgr".
        scale: what is done to pixels of 0 to 255 outside of the graph; None: what its first operations leave to do.
        name: for messages; None: the file's.
        keep_graph: do not look for a network that is known.
        features_bias: as `get_model` has it, for a network that is known.

    Raises:
        CheckpointError: a file that is absent, damaged or no encoder; an operation that cannot be trained, with its
            node; or embeddings that differ from onnxruntime's.
        ConfigError: onnx or onnxruntime is absent.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"{path}: importing ONNX files needs onnx: {NEEDED}") from error
    reference = load_onnx_model(path, color, torch.device("cpu"), name, scale)
    check_graph(path)
    model = onnx.load(str(path))
    structure, weights = read_graph(model, path)
    structure, shortened = without_unit_length(structure, weights)
    structure, weights = with_usual_pixels(*simplified(structure, weights), color, reference.scale)
    notes = list(reference.warnings)
    if reference.scale == NOTHING:
        notes.append("it normalises pixels of 0 to 255 itself: that is part of the network now")
    if shortened:
        notes.append("it brings its features to unit length: that is left out, so that their norms can tell quality")
    backbone, network, why = _module(structure, weights, keep_graph, features_bias)
    if why:
        notes.append(f"it keeps its graph: {why}")
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    if half:
        notes.append("its numbers are float16 and are float32 from here on")
    difference, images = _compare(backbone, reference, shortened)
    if not difference <= (HALF_TOLERANCE if half else TOLERANCE):
        raise CheckpointError(
            f"{path}: the imported network's embeddings differ from onnxruntime's by {difference:.3g} of their norm, "
            f"more than {HALF_TOLERANCE if half else TOLERANCE:g}"
        )
    return Imported(backbone, network, structure.size, difference, images, tuple(notes))


def _module(
    structure: Structure, weights: dict[str, Tensor], keep_graph: bool, features_bias: bool
) -> tuple[nn.Module, str, str]:
    """The network, its name, and why it keeps its graph, if it does."""
    if not keep_graph:
        try:
            network, state = recognised(structure, weights)
            backbone = get_model(network, structure.size, features_bias=features_bias)
            backbone.load_state_dict(state)
            return backbone.eval(), network, ""
        except NotThisNetwork as reason:
            why = str(reason)
    backbone = GraphNetwork(structure)
    backbone.load_state_dict({**weights, KEY: backbone.structure})
    return backbone.eval(), GRAPH, "" if keep_graph else why


def _compare(backbone: nn.Module, reference: OnnxModel, unit: bool) -> tuple[float, int]:
    """The largest difference by the norm, and the number of images; `unit`: of features brought to unit length."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    images = np.concatenate([noise, pictures()[1:3]])
    found, expected = embed(backbone, images), reference.embed(images)
    apart = [
        _apart(ours.astype(np.float64), theirs.astype(np.float64), unit)
        for ours, theirs in zip(_both(found), _both(expected), strict=True)
    ]
    return max(apart), 2 * len(images)


def _both(embeddings: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    return embeddings.original, embeddings.mirrored


def _apart(ours: np.ndarray, theirs: np.ndarray, unit: bool) -> float:
    norms = np.linalg.norm(theirs, axis=1, keepdims=True)
    if unit:
        ours = ours / np.linalg.norm(ours, axis=1, keepdims=True) * norms
    return float((np.abs(ours - theirs) / norms).max())

"""PyTorch weights as a FaceModel: a model.pt or a training checkpoint, this project's or arcface_torch's.

The network is named, or told by the names and shapes of the state dict's parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config.recipe import import_parts
from ..utils.errors import CheckpointError, ConfigError, DataError
from ..utils.text import read_json
from .backbones import NAMES, get_model, is_known
from .checkout_networks import checkout_network, is_of_the_checkout
from .embeddings import Embeddings, embed
from .face_model import USUAL, Scale, as_the_model_wants, check_color, check_features
from .onnx_import.network import GRAPH, KEY, GraphNetwork, structure_in
from .photographs import EmbedsFiles
from .weights import is_counter, read_backbone

LOGGER = logging.getLogger(__name__)
# The last linear layer: rows are the size of a feature. IResNet and QuickNet; MobileFaceNet; arcface_torch's ViT.
_LAST_LAYERS = ("fc.weight", "features.layers.2.weight", "feature.2.weight")
# By which a backbone is found in a checkpoint among other modules: those, and others that several networks have.
KNOWN_BY = (
    *_LAST_LAYERS, "features.weight", "features.layers.3.weight", "feature.3.weight", "conv1.weight", "bn2.weight",
    "layers.0.weight", "conv_sep.layers.0.weight", "pos_embed", KEY,
)  # fmt: skip
# Of AdaFace's and face.evoLVe's networks, which are not here.
_THEIR_LAYERS = ("input_layer.0.weight", "output_layer.3.weight")


class TorchModel(EmbedsFiles):
    """A backbone with its weights, in evaluation mode on `device`.

    Args:
        backbone: (B, 3, 112, 112) float32 in [-1, 1] -> (B, d).
        name: for tables.
        dim: d.
        color: the order of channels that the model was trained on, "rgb" or "bgr".
        device: where it runs.
        network: name of the backbone's kind.
        scale: what is done to pixels of 0 to 255 before the backbone gets them.

    Example:
        >>> backbone = nn.Sequential(nn.AvgPool2d(112), nn.Flatten())  # mean colour
        >>> model = TorchModel(backbone, "mean colour", 3, "bgr", torch.device("cpu"), "none")
        >>> blue = np.zeros((1, 112, 112, 3), np.uint8) + np.array([0, 0, 255], np.uint8)
        >>> model.embed(blue).original.tolist()
        [[1.0, -1.0, -1.0]]
    """

    def __init__(
        self,
        backbone: nn.Module,
        name: str,
        dim: int,
        color: str,
        device: torch.device,
        network: str,
        scale: Scale = USUAL,
    ) -> None:
        self.backbone, self.name, self.dim, self.network = backbone.eval().to(device), name, dim, network
        self.color, self.device, self.scale = check_color(color), device, scale
        self._scaled = self.backbone if scale == USUAL else nn.Sequential(_Rescaled(scale).to(device), self.backbone)

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        """As `FaceModel.embed`."""
        wanted = as_the_model_wants(images, self.color)
        return check_features(embed(self._scaled, wanted, batch_size, self.device, progress), self.name)


class _Rescaled(nn.Module):
    """(N, 3, 112, 112) in [-1, 1], as `embed` gives it, to what another scale makes of the same pixels."""

    mean: Tensor
    std: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(scale.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(scale.std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images * 127.5 + 127.5 - self.mean) / self.std


def load_torch_model(
    path: Path, network: str | None, color: str, device: torch.device, scale: Scale = USUAL
) -> TorchModel:
    """The model in a file.

    Args:
        path: the file.
        network: name of the network; None: what recipe.json beside the file says, else recognised by its parameters.
        color: the order of channels that the model was trained on, "rgb" or "bgr".
        device: where it runs.
        scale: what is done to pixels of 0 to 255 before the backbone gets them.

    Raises:
        CheckpointError: a file that is no backbone, damaged or refused, or of another network; names the first
            parameter that differs.
        ConfigError: a network that is not known or needs a checkout.
    """
    weights, network, size = read_network(path, network)
    backbone = _skeleton(network, size, weights, str(path))
    _fill(backbone, weights)
    return TorchModel(backbone, _name(path), size, color, device, network, scale)


def read_network(path: Path, network: str | None) -> tuple[dict[str, Tensor], str, int]:
    """The weights in a file, and what network they are of.

    Args:
        path: the file.
        network: name of the network; None: what recipe.json beside the file says, else recognised by its parameters.

    Returns:
        The state dict, the network's name, d.

    Raises:
        CheckpointError, ConfigError: as `load_torch_model`.
    """
    weights = read_backbone(path, KNOWN_BY)
    structure = structure_in(weights, str(path))
    recipe = {} if network else recipe_beside(path)
    network, by = (network, "--network") if network else (recipe.get("network"), str(path.parent / "recipe.json"))
    if structure is not None:
        size = structure.size
    elif network == GRAPH:
        size = 0  # what is missing is said below
    elif network is None or network in NAMES or is_of_the_checkout(network):
        size = embedding_size(weights, str(path))
    else:
        know_parts(network, recipe, path)
        size = recipe.get("embedding_size") or _last_size(weights)
    network = network or (recognise(weights, size) if structure is None else GRAPH)
    if network is None:
        vit = " It is a vision transformer: give its name, such as --network vit_b." if "pos_embed" in weights else ""
        raise CheckpointError(
            f"{path}: its {len(weights)} parameters fit none of the networks {', '.join(NAMES)}.{vit} The network can "
            "be given by --network"
        )
    difference = first_difference(weights, shapes_of(_skeleton(network, size, weights, str(path))))
    if difference:
        likely = recognise(weights, size)
        advice = f"It fits {likely}: give --network {likely}" if likely else "Check --network"
        raise CheckpointError(f"{path} is no {network}, as {by} says: {difference}. {advice}")
    return weights, network, size


def _skeleton(network: str, size: int, weights: Mapping[str, Tensor], source: str) -> nn.Module:
    """The network without weights; one of a checkout has random ones, to be overwritten."""
    if network == GRAPH:
        structure = structure_in(weights, source)
        if structure is None:
            raise CheckpointError(
                f"{source} is no network that keeps its graph: {KEY!r} is not among its parameters, which says what is "
                "computed. Give the ONNX file that it was imported from, or a checkpoint of the run"
            )
        with torch.device("meta"):
            return GraphNetwork(structure)
    if network not in NAMES and is_of_the_checkout(network):
        return checkout_network(network, size)
    with torch.device("meta"):
        return get_model(network, size)


def _fill(backbone: nn.Module, weights: Mapping[str, Tensor]) -> None:
    whole = {
        name: (weights[name].float() if weights[name].is_floating_point() else weights[name])
        if name in weights
        else torch.zeros((), dtype=torch.int64)
        for name in backbone.state_dict()
        if name in weights or is_counter(name)
    }
    backbone.load_state_dict(whole, assign=True)
    backbone.requires_grad_(False)


def recipe_beside(path: Path) -> dict[str, Any]:
    """recipe.json in a file's folder; nothing where there is none of ours."""
    try:
        found = read_json(path.parent / "recipe.json", "recipe")
    except DataError:  # absent: the weights tell
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("network"), str) else {}


def know_parts(network: str, recipe: Mapping[str, Any], path: Path) -> None:
    """Run the files that define a run's own parts, as recipe.json names them, where its network is not known without.

    Raises:
        ConfigError: the network is not known with them either; says what to do.
    """
    files = recipe.get("imports")
    if is_known(network):
        return
    for file in files if isinstance(files, list) else []:
        if isinstance(file, str) and Path(file).is_file():
            LOGGER.info("network %r is defined in %s, which is run, as recipe.json of the run says", network, file)
            import_parts(file)
    if not is_known(network):
        named = f" It was defined in {', '.join(map(str, files))}, which is not there." if files else ""
        raise ConfigError(
            f"network is {network!r}: known networks are {', '.join(NAMES)}, and timm:NAME; {path} needs it.{named} "
            "Name the file that defines it by --import FILE"
        )


def _last_size(weights: Mapping[str, Tensor]) -> int:
    """d of a network that is not the project's: the length of its last parameter."""
    return next((value.shape[0] for value in reversed(list(weights.values())) if value.ndim), 0)


def _name(path: Path) -> str:
    """The run's folder for the names that every run has; else the file's own name."""
    if path.stem == "model" or path.stem.startswith("checkpoint_gpu_"):
        return path.resolve().parent.name
    return path.stem


def embedding_size(weights: Mapping[str, Tensor], source: str) -> int:
    """d, from the shape of the last linear layer.

    Args:
        weights: state dict of a backbone.
        source: where it is from, for the message.

    Raises:
        CheckpointError: no last layer that is known.
    """
    for name in _LAST_LAYERS:
        if name in weights and weights[name].ndim == 2:
            return weights[name].shape[0]
    if any(name.endswith(_THEIR_LAYERS) for name in weights):
        raise CheckpointError(
            f"{source} is of an IR network of AdaFace or face.evoLVe (its layers are input_layer, body, output_layer), "
            f"which is not among {', '.join(NAMES)}: export the model to ONNX there and give the .onnx file"
        )
    raise CheckpointError(
        f"{source} is of no network that is known: it has none of {', '.join(_LAST_LAYERS)} (its first parameter is "
        f"{next(iter(weights))}). Known networks are {', '.join(NAMES)}"
    )


def recognise(weights: Mapping[str, Tensor], size: int) -> str | None:
    """Name of this project's network whose every parameter name and shape agrees; None when there is none."""
    return next((name for name in NAMES if first_difference(weights, shapes(name, size)) is None), None)


@lru_cache
def shapes(network: str, size: int) -> Mapping[str, torch.Size]:
    """Names and shapes of a network's state dict, without making its weights; not to be changed."""
    with torch.device("meta"):
        return shapes_of(get_model(network, size))


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    """Names and shapes of a module's state dict."""
    return {name: value.shape for name, value in model.state_dict().items()}


def first_difference(weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> str | None:
    """The first parameter that differs, in words; None when every name and shape agrees.

    The counters of BatchNorm may be absent, as in files of old PyTorch versions: evaluation does not use them.
    """
    for name, shape in expected.items():
        if name not in weights:
            if not is_counter(name):
                return f"{name} is missing"
        elif weights[name].shape != shape:
            return f"{name} is {tuple(weights[name].shape)}, not {tuple(shape)}"
    return next((f"{name} is surplus" for name in weights if name not in expected), None)

"""Which network a state dict is of, from its parameter names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from ...backbones import NAMES, get_model
from ...utils.errors import CheckpointError

# The last linear layer: rows are the size of a feature. IResNet and QuickNet; MobileFaceNet; arcface_torch's ViT.
_LAST_LAYERS = ("fc.weight", "features.layers.2.weight", "feature.2.weight")


def embedding_size(weights: Mapping[str, Tensor], source: str) -> int:
    """d, from the shape of the last linear layer. Raises CheckpointError when there is none that is known."""
    for name in _LAST_LAYERS:
        if name in weights and weights[name].ndim == 2:
            return weights[name].shape[0]
    raise CheckpointError(
        f"{source} is of no network that is known: it has none of {', '.join(_LAST_LAYERS)} (its first parameter is "
        f"{next(iter(weights))}). Known networks are {', '.join(NAMES)}"
    )


def recognise(weights: Mapping[str, Tensor], size: int) -> str | None:
    """The one of this project's networks whose every name and shape agrees; None when there is none."""
    return next((name for name in NAMES if first_difference(weights, shapes(name, size)) is None), None)


@lru_cache
def shapes(network: str, size: int) -> Mapping[str, torch.Size]:
    """Names and shapes of a network's state dict, without making its weights; not to be changed."""
    with torch.device("meta"):
        return shapes_of(get_model(network, size))


def shapes_of(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def first_difference(weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> str | None:
    """The first name that differs, in words; None when everything agrees.

    The counters of BatchNorm may be absent, as in files of old PyTorch versions: evaluation does not use them.
    """
    for name, shape in expected.items():
        if name not in weights:
            if not is_counter(name):
                return f"{name} is missing"
        elif weights[name].shape != shape:
            return f"{name} is {tuple(weights[name].shape)}, not {tuple(shape)}"
    return next((f"{name} is surplus" for name in weights if name not in expected), None)


def is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")

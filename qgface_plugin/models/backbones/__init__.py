"""Backbones by the names that arcface_torch gives them; `quick` (a demonstration) and `small` are our own."""

from __future__ import annotations

from functools import partial

from torch import nn

from ...utils.errors import ConfigError
from ...utils.registry import NETWORKS
from ..checkout_networks import is_of_the_checkout
from . import iresnet, mobilefacenet, vit
from .iresnet import IResNet
from .mobilefacenet import MobileFaceNet
from .own import network
from .small import QuickNet, SmallResNet
from .timm_networks import PREFIX, timm_network
from .vit import VisionTransformer

__all__ = [
    "NAMES",
    "IResNet",
    "MobileFaceNet",
    "QuickNet",
    "SmallResNet",
    "VisionTransformer",
    "get_model",
    "is_known",
    "network",
    "save_activations",
]

ATTRIBUTE = "checkpoint_activations"  # of networks that can do it
OWN = {"quick": QuickNet, "small": SmallResNet}
NAMES = (*iresnet.DEPTHS, *mobilefacenet.SIZES, *vit.SIZES, *OWN)


def get_model(
    name: str, num_features: int = 512, fp16: bool = False, dropout: float = 0.0, features_bias: bool = True
) -> nn.Module:
    """A randomly initialised encoder: images (B, 3, 112, 112) in [-1, 1] -> raw features (B, num_features) float32.

    Args:
        name: one of NAMES, one that `@network` has registered, or "timm:" and a name of timm's.
        num_features: d, at least 1.
        fp16: float16 autocast on CUDA (bfloat16: wrap the call in torch.autocast instead).
        dropout: probability in [0, 1) in front of the last linear layer (iresnet only).
        features_bias: False keeps the last BatchNorm's bias at zero without gradient, so that the norm of a feature
            carries its quality (docs/method.md); names and shapes of the state dict are the same either way.

    Raises:
        ConfigError: an unknown name or a value out of range.

    Example:
        >>> import torch
        >>> get_model("quick", num_features=64)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 64])
    """
    if not is_known(name):
        where = "; arcface_torch has it: train it in a checkout (config.host)" if is_of_the_checkout(name) else ""
        raise ConfigError(
            f"network is {name!r}: known networks are {', '.join(NETWORKS)}, and {PREFIX}NAME of timm's{where}. One of "
            "your own is registered by @network, in the recipe or in a file that it imports"
        )
    if num_features < 1:
        raise ConfigError(f"num_features is {num_features!r}: it must be at least 1")
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout is {dropout!r}: it must be in [0, 1)")
    if name in iresnet.DEPTHS:
        return IResNet(iresnet.DEPTHS[name], num_features, fp16, dropout, features_bias)
    if dropout:
        raise ConfigError(f"dropout is {dropout!r}: network {name!r} has no dropout layer, so it must be 0")
    if name.startswith(PREFIX):
        return timm_network(name.removeprefix(PREFIX), num_features, features_bias)
    if name in vit.SIZES:
        return VisionTransformer(*vit.SIZES[name], num_features, fp16, features_bias)
    if name not in mobilefacenet.SIZES:
        made: nn.Module = NETWORKS[name](num_features=num_features, features_bias=features_bias)
        return made
    blocks, width = mobilefacenet.SIZES[name]
    return MobileFaceNet(blocks, width, num_features, fp16, features_bias)


def is_known(name: str) -> bool:
    """Whether `get_model` makes a network of that name; of timm's only the prefix is looked at."""
    return name in NETWORKS or name.startswith(PREFIX)


def save_activations(backbone: nn.Module, name: str) -> None:
    """Let a network compute activations again in the backward pass, in the place of keeping them.

    Args:
        backbone: changed in place.
        name: the network's, for the message.

    Raises:
        ConfigError: it has no way of doing so.
    """
    if not hasattr(backbone, ATTRIBUTE):
        raise ConfigError(
            f"config.qgface.train.checkpoint_activations is True, but network {name!r} has no such attribute: a "
            "network of one's own has to look at it and call torch.utils.checkpoint"
        )
    setattr(backbone, ATTRIBUTE, True)


for _name in NAMES:
    NETWORKS[_name] = OWN.get(_name) or partial(get_model, _name)
NETWORKS.freeze()

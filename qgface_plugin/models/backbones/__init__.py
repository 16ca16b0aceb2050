"""Backbones by the names that arcface_torch gives them; `quick` (a demonstration) and `small` are our own."""

from __future__ import annotations

from torch import nn

from ...utils.errors import ConfigError
from ..checkout_networks import is_of_the_checkout
from . import iresnet, mobilefacenet
from .iresnet import IResNet
from .mobilefacenet import MobileFaceNet
from .small import QuickNet, SmallResNet

__all__ = ["NAMES", "IResNet", "MobileFaceNet", "QuickNet", "SmallResNet", "get_model"]

OWN = {"quick": QuickNet, "small": SmallResNet}
NAMES = (*iresnet.DEPTHS, *mobilefacenet.SIZES, *OWN)


def get_model(
    name: str, num_features: int = 512, fp16: bool = False, dropout: float = 0.0, features_bias: bool = True
) -> nn.Module:
    """A randomly initialised encoder: images (B, 3, 112, 112) in [-1, 1] -> raw features (B, num_features) float32.

    Args:
        name: one of NAMES.
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
    if name not in NAMES:
        where = "; arcface_torch has it: train it in a checkout (config.host)" if is_of_the_checkout(name) else ""
        raise ConfigError(f"network is {name!r}: known networks are {', '.join(NAMES)}{where}")
    if num_features < 1:
        raise ConfigError(f"num_features is {num_features!r}: it must be at least 1")
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout is {dropout!r}: it must be in [0, 1)")
    if name in iresnet.DEPTHS:
        return IResNet(iresnet.DEPTHS[name], num_features, fp16, dropout, features_bias)
    if dropout:
        raise ConfigError(f"dropout is {dropout!r}: network {name!r} has no dropout layer, so it must be 0")
    if name in OWN:
        return OWN[name](num_features, features_bias)
    blocks, width = mobilefacenet.SIZES[name]
    return MobileFaceNet(blocks, width, num_features, fp16, features_bias)

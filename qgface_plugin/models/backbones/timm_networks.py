"""Networks of timm (PyTorch Image Models) as encoders of faces: `network = "timm:NAME"`. timm is an extra."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.errors import ConfigError
from .common import freeze_bias, full_precision

PREFIX = "timm:"
SIDE = 112


class TimmNetwork(nn.Module):
    """Images (B, 3, 112, 112) in [-1, 1] -> raw features (B, d) float32: a network of timm, then a BatchNorm.

    Args:
        model: of timm, whose classifier gives d numbers.
        num_features: d.
        features_bias: False fixes the BatchNorm's bias at zero.

    Example:
        >>> model = nn.Sequential(nn.AvgPool2d(112), nn.Flatten(), nn.Linear(3, 4))
        >>> TimmNetwork(model, 4)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 4])
    """

    def __init__(self, model: nn.Module, num_features: int, features_bias: bool = True) -> None:
        super().__init__()
        self.model = model
        self.features = nn.BatchNorm1d(num_features)
        if not features_bias:
            freeze_bias(self.features)

    def forward(self, images: Tensor) -> Tensor:
        x = self.model(images)
        with full_precision(x):
            return self.features(x.float())

    @property
    def checkpoint_activations(self) -> bool:
        """Whether timm computes its blocks again in the backward pass."""
        return bool(getattr(self.model, "grad_checkpointing", False))

    @checkpoint_activations.setter
    def checkpoint_activations(self, wanted: bool) -> None:
        try:
            self.model.set_grad_checkpointing(wanted)  # type: ignore[operator]
        except (AttributeError, AssertionError) as error:
            raise ConfigError(
                "config.qgface.train.checkpoint_activations is True, but this network of timm cannot do it"
            ) from error


def timm_network(name: str, num_features: int, features_bias: bool) -> TimmNetwork:
    """A randomly initialised network of timm for images of 112 x 112 pixels.

    Args:
        name: timm's own, without the prefix; nothing is downloaded.
        num_features: d.
        features_bias: as `TimmNetwork` has it.

    Raises:
        ConfigError: timm is absent or does not import, or has no such network, or it cannot take 112 x 112.
    """
    try:
        import timm
    except Exception as error:  # its torchvision may be of another torch
        raise ConfigError(
            f"network {PREFIX + name!r} needs timm, which does not import ({error}): pip install timm, with the "
            "torchvision that belongs to your torch"
        ) from error
    if name not in timm.list_models():
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(PREFIX + other for other in near)}?" if near else "see timm.list_models()"
        raise ConfigError(f"timm {timm.__version__} has no network {name!r}: {hint}")
    return TimmNetwork(_created(timm, name, num_features), num_features, features_bias)


def _created(timm: Any, name: str, num_features: int) -> nn.Module:
    options = {"pretrained": False, "num_classes": num_features}
    try:
        model: nn.Module = timm.create_model(name, **options, img_size=SIDE)
    except TypeError:  # a network without an image size of its own, as convolutions are
        model = timm.create_model(name, **options)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"timm's {name} cannot be made for {SIDE} x {SIDE} pixels: {error}") from error
    training = model.training
    try:
        with torch.no_grad():
            shape = model.eval()(torch.zeros(1, 3, SIDE, SIDE, device=next(model.parameters()).device)).shape
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"timm's {name} does not take {SIDE} x {SIDE} pixels: {error}") from error
    model.train(training)
    if shape != (1, num_features):
        raise ConfigError(f"timm's {name} gives {tuple(shape)} for one image, and not (1, {num_features})")
    return model

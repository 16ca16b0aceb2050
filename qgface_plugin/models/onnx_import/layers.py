"""Layers of imported graphs: operations with weights of their own, as modules that PyTorch's users know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ...utils.errors import CheckpointError
from .operations import pad
from .structure import Node


class PaddedConv(nn.Conv2d):
    """A convolution whose padding may differ from side to side, as TensorFlow's SAME has it.

    Args:
        pads: top, left, bottom, right.
        arguments: of nn.Conv2d, without its padding.

    Example:
        >>> import torch
        >>> PaddedConv((0, 0, 1, 1), in_channels=1, out_channels=2, kernel_size=3, stride=2)(
        ...     torch.zeros(1, 1, 8, 8)
        ... ).shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(self, pads: tuple[int, ...], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad(x, self.pads))


def _conv(channels: tuple[int, int], kernel: list[int], stride: list[int], pads: list[int], dilation: list[int],
          groups: int, bias: bool) -> nn.Module:  # fmt: skip
    arguments: dict[str, Any] = {
        "in_channels": channels[0], "out_channels": channels[1], "kernel_size": tuple(kernel), "stride": tuple(stride),
        "dilation": tuple(dilation), "groups": groups, "bias": bias,
    }  # fmt: skip
    half = len(pads) // 2
    if pads[:half] == pads[half:]:
        return nn.Conv2d(**arguments, padding=(pads[0], pads[1]))
    return PaddedConv(tuple(pads), **arguments)


def _batch_norm(channels: int, epsilon: float, planar: bool) -> nn.Module:
    return (nn.BatchNorm2d if planar else nn.BatchNorm1d)(channels, eps=epsilon)


def _linear(inputs: int, outputs: int, bias: bool) -> nn.Module:
    return nn.Linear(inputs, outputs, bias)


def _prelu(channels: int) -> nn.Module:
    return nn.PReLU(channels)


def _layer_norm(shape: list[int], epsilon: float) -> nn.Module:
    return nn.LayerNorm(shape, epsilon)


def _instance_norm(channels: int, epsilon: float) -> nn.Module:
    return nn.GroupNorm(channels, channels, epsilon)


LAYERS: Mapping[str, Callable[..., nn.Module]] = {
    "Conv2d": _conv,
    "BatchNorm": _batch_norm,
    "Linear": _linear,
    "PReLU": _prelu,
    "LayerNorm": _layer_norm,
    "InstanceNorm": _instance_norm,
}
"""By kind of a node; its attributes are their arguments."""


def make_layer(node: Node) -> nn.Module:
    """The layer of a node, with weights of PyTorch's own beginning.

    Raises:
        CheckpointError: its attributes do not fit.
    """
    try:
        return LAYERS[node.op](**node.attributes)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"layer {node.name} ({node.op}) of the graph cannot be made: {error}") from error

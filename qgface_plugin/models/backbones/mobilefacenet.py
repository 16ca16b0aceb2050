"""MobileFaceNet (Chen et al. 2018) in the two widths of InsightFace's arcface_torch.

Parameter names, shapes and order are those of arcface_torch, so that model.pt moves both ways: every block holds its
parts in a Sequential called `layers`. Shapes: B images, C channels, d = num_features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import body_autocast, checkpointed, freeze_bias, full_precision

# blocks in each of the four stages, and the width of the first one in channels
SIZES: dict[str, tuple[tuple[int, int, int, int], int]] = {
    "mbf": ((1, 4, 6, 2), 128),
    "mbf_large": ((2, 8, 12, 4), 256),
}


class Block(nn.Module):
    """Modules one after the other; with `residual` their input is added to their output."""

    def __init__(self, *modules: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*modules)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        # In place is safe: such a block ends with a BatchNorm, whose backward pass reads its input, not its output.
        return out.add_(x) if self.residual else out


class MobileFaceNet(nn.Module):
    """Images (B, 3, 112, 112) float, normalised to [-1, 1] -> raw features (B, d) float32, before l2 normalisation.

    Args:
        blocks: in each of the four stages.
        width: of the first one, in channels.
        num_features: d.
        fp16: run the four stages under float16 autocast on CUDA; from the 1x1 convolution to 512 channels on everything
            runs in float32 always, also inside a caller's autocast.
        features_bias: False fixes the last BatchNorm's bias at zero (its key stays); its weight is trained either way,
            as in arcface_torch.

    Attributes:
        checkpoint_activations: compute each stage again in the backward pass, in the place of keeping its activations.

    Example:
        >>> MobileFaceNet(*SIZES["mbf"], num_features=16)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        width: int,
        num_features: int = 512,
        fp16: bool = False,
        features_bias: bool = True,
    ) -> None:
        super().__init__()
        self.fp16, self.checkpoint_activations = fp16, False
        # arcface_torch's numbers: a lone first block has 64 groups, whatever the width
        lone = blocks[0] == 1
        self.layers = nn.ModuleList(
            [
                _conv(3, width, kernel=3, stride=2, padding=1),  # (B, width, 56, 56)
                _conv(width, width, kernel=3, padding=1, groups=64) if lone else _stage(width, 128, blocks[0]),
                _bottleneck(width, 128, width, stride=2),  # (B, width, 28, 28)
                _stage(width, 128, blocks[1]),
                _bottleneck(width, 256, 2 * width, stride=2),  # (B, 2 width, 14, 14)
                _stage(2 * width, 256, blocks[2]),
                _bottleneck(2 * width, 512, 2 * width, stride=2),  # (B, 2 width, 7, 7)
                _stage(2 * width, 256, blocks[3]),
            ]
        )
        self.conv_sep = _conv(2 * width, 512)
        self.features = Block(
            _linear(512, 512, kernel=7, groups=512),  # (B, 512, 1, 1)
            nn.Flatten(),
            nn.Linear(512, num_features, bias=False),
            nn.BatchNorm1d(num_features),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if not features_bias:
            norm = self.features.layers[-1]
            assert isinstance(norm, nn.BatchNorm1d)
            freeze_bias(norm)

    def forward(self, x: Tensor) -> Tensor:
        with body_autocast(x, self.fp16):
            saving = self.checkpoint_activations and self.training and torch.is_grad_enabled()
            for layer in self.layers:
                x = checkpointed(layer, layer, x) if saving else layer(x)
        with full_precision(x):
            return self.features(self.conv_sep(x.float()))  # (B, d)


def _linear(
    channels_in: int, channels: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
) -> Block:
    """Convolution and BatchNorm, no activation."""
    conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, groups=groups, bias=False)
    return Block(conv, nn.BatchNorm2d(channels))


def _conv(
    channels_in: int, channels: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
) -> Block:
    """Convolution, BatchNorm and PReLU."""
    conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, groups=groups, bias=False)
    return Block(conv, nn.BatchNorm2d(channels), nn.PReLU(channels))


def _bottleneck(channels_in: int, inner: int, channels: int, stride: int = 1, residual: bool = False) -> Block:
    """1x1 to `inner` channels, 3x3 depthwise (stride), 1x1 linear to `channels`."""
    return Block(
        _conv(channels_in, inner),
        _conv(inner, inner, kernel=3, stride=stride, padding=1, groups=inner),
        _linear(inner, channels),
        residual=residual,
    )


def _stage(channels: int, inner: int, blocks: int) -> Block:
    """`blocks` bottlenecks, each added to its input."""
    return Block(*(_bottleneck(channels, inner, channels, residual=True) for _ in range(blocks)))

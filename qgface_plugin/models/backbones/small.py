"""Small encoders of our own, at 56 px: SmallResNet for experiments on small sets and CPUs, QuickNet for demonstrations.

SmallResNet has about 140 million multiplications per image in plain 3x3 convolutions, which CPUs do well: made for
comparing settings with each other in hours instead of days. QuickNet has four convolutions and is no rival to it.
Neither is in arcface_torch. Shapes: B images, d = num_features.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import HalfSizeEncoder

WIDTHS = (32, 64, 128, 256)  # channels at 56, 28, 14 and 7 pixels


class SmallResNet(HalfSizeEncoder):
    """Images (B, 3, 112, 112) in [-1, 1] -> raw features (B, d) float32.

    Every block is two 3x3 convolutions with BatchNorm, the first one with stride 2, added to a 1x1 shortcut (He et
    al., 2016).

    Args:
        num_features: d.
        features_bias: as `HalfSizeEncoder` has it.

    Example:
        >>> import torch
        >>> SmallResNet(num_features=32)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 32])
    """

    def __init__(self, num_features: int = 512, features_bias: bool = True) -> None:
        first, *_, last = WIDTHS
        layers = nn.Sequential(
            nn.AvgPool2d(2),  # (B, 3, 56, 56)
            *_conv(3, first),
            nn.PReLU(first),
            *(Block(a, b) for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)),  # to (B, 256, 7, 7)
            nn.Flatten(),
        )
        super().__init__(layers, last * 7 * 7, num_features, features_bias)


class Block(nn.Module):
    """Half the side, `channels` channels: (B, C, s, s) -> (B, channels, s / 2, s / 2)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_conv(channels_in, channels, stride=2), nn.PReLU(channels), *_conv(channels, channels)
        )
        self.shortcut = nn.Sequential(*_conv(channels_in, channels, stride=2, kernel=1))
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layers(x) + self.shortcut(x))


def _conv(channels_in: int, channels: int, stride: int = 1, kernel: int = 3) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(channels)


class QuickNet(HalfSizeEncoder):
    """Images (B, 3, 112, 112) in [-1, 1] -> raw features (B, d) float32; about 16 million multiplications per image.

    Args:
        num_features: d.
        features_bias: as `HalfSizeEncoder` has it.

    Example:
        >>> import torch
        >>> QuickNet(num_features=32)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 32])
    """

    def __init__(self, num_features: int = 128, features_bias: bool = True) -> None:
        layers = nn.Sequential(
            nn.AvgPool2d(2),  # (B, 3, 56, 56)
            *_conv_relu(3, 32),  # (B, 32, 28, 28)
            *_conv_relu(32, 64),  # (B, 64, 14, 14)
            *_conv_relu(64, 128),  # (B, 128, 7, 7)
            *_conv_relu(128, 128, stride=1),
            nn.Flatten(),
        )
        super().__init__(layers, 128 * 7 * 7, num_features, features_bias)


def _conv_relu(channels_in: int, channels: int, stride: int = 2) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)

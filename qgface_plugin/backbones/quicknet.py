"""QuickNet: an encoder of four convolutions for demonstrations on a CPU. Not in arcface_torch, and no rival to it."""

from __future__ import annotations

from torch import nn

from .common import HalfSizeEncoder


class QuickNet(HalfSizeEncoder):
    """Images (B, 3, 112, 112) in [-1, 1] -> raw features (B, d) float32; about 16 million multiplications an image.

    features_bias as HalfSizeEncoder has it.
    """

    def __init__(self, num_features: int = 128, features_bias: bool = True) -> None:
        layers = nn.Sequential(
            nn.AvgPool2d(2),  # (B, 3, 56, 56)
            *_conv(3, 32),  # (B, 32, 28, 28)
            *_conv(32, 64),  # (B, 64, 14, 14)
            *_conv(64, 128),  # (B, 128, 7, 7)
            *_conv(128, 128, stride=1),
            nn.Flatten(),
        )
        super().__init__(layers, 128 * 7 * 7, num_features, features_bias)


def _conv(channels_in: int, channels: int, stride: int = 2) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)

"""QuickNet: an encoder of four convolutions for demonstrations on a CPU. Not in arcface_torch, and no rival to it."""

from __future__ import annotations

from torch import Tensor, nn

from .common import freeze_bias, full_precision


class QuickNet(nn.Module):
    """Images (B, 3, 112, 112) in [-1, 1] -> raw features (B, d) float32; about 16 million multiplications an image.

    features_bias: False fixes the last BatchNorm's bias at zero, as in the other backbones.
    """

    def __init__(self, num_features: int = 128, features_bias: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(2),  # (B, 3, 56, 56)
            *_conv(3, 32),  # (B, 32, 28, 28)
            *_conv(32, 64),  # (B, 64, 14, 14)
            *_conv(64, 128),  # (B, 128, 7, 7)
            *_conv(128, 128, stride=1),
            nn.Flatten(),
        )
        self.fc = nn.Linear(128 * 7 * 7, num_features)
        self.features = nn.BatchNorm1d(num_features)
        if not features_bias:
            freeze_bias(self.features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        with full_precision(x):
            return self.features(self.fc(x.float()))  # (B, d)


def _conv(channels_in: int, channels: int, stride: int = 2) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)

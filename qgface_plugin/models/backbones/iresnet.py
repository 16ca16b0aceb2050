"""IResNet: the residual networks of ArcFace (Deng et al. 2019; blocks of Duta et al., "Improved Residual Networks").

Parameter names, shapes and order are those of InsightFace's arcface_torch, so that model.pt moves both ways.
Shapes: B images, C channels, d = num_features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import body_autocast, checkpointed, freeze_bias, full_precision

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "r18": (2, 2, 2, 2),
    "r34": (3, 4, 6, 3),
    "r50": (3, 4, 14, 3),
    "r100": (3, 13, 30, 3),
    "r200": (6, 26, 60, 6),
}
WIDTHS = (64, 128, 256, 512)


class IResNetBlock(nn.Module):
    """BN - 3x3 conv - BN - PReLU - 3x3 conv (stride) - BN, plus the input.

    Where shapes differ, a 1x1 convolution with BatchNorm fits the input to the sum.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:  # (B, C_in, H, W) -> (B, C, H / stride, W / stride)
        residual = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        # In place is safe: the backward pass of a BatchNorm reads its input, not its output.
        residual += x if self.downsample is None else self.downsample(x)
        return residual


class IResNet(nn.Module):
    """Images (B, 3, 112, 112) float, normalised to [-1, 1] -> raw features (B, d) float32, before l2 normalisation.

    Args:
        depths: blocks in each of the four stages.
        num_features: d.
        fp16: run the body under float16 autocast on CUDA; the last linear layer and BatchNorm run in float32 always,
            also inside a caller's autocast.
        dropout: probability, in front of the last linear layer.
        features_bias: False fixes the last BatchNorm's bias at zero (its key stays).

    Attributes:
        checkpoint_activations: compute each block again in the backward pass, in the place of keeping its activations.

    Example:
        >>> IResNet((1, 1, 1, 1), num_features=16)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        num_features: int = 512,
        fp16: bool = False,
        dropout: float = 0.0,
        features_bias: bool = True,
    ) -> None:
        super().__init__()
        self.fp16, self.checkpoint_activations = fp16, False
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], depths[0])
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], depths[1])
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], depths[2])
        self.layer4 = _stage(WIDTHS[2], WIDTHS[3], depths[3])
        self.bn2 = nn.BatchNorm2d(WIDTHS[3])
        self.dropout = nn.Dropout(dropout, inplace=True)
        self.fc = nn.Linear(WIDTHS[3] * 7 * 7, num_features)
        self.features = nn.BatchNorm1d(num_features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)
        # A trained scale would let the network stretch single coordinates; arcface_torch fixes it at one.
        self.features.weight.requires_grad_(False)
        if not features_bias:
            freeze_bias(self.features)

    def forward(self, x: Tensor) -> Tensor:
        with body_autocast(x, self.fp16):
            x = self.prelu(self.bn1(self.conv1(x)))  # (B, 64, 112, 112)
            for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
                x = self._saving(stage, x) if self.checkpoint_activations else stage(x)  # (B, 512, 7, 7) at the end
            x = self.dropout(torch.flatten(self.bn2(x), 1))  # (B, 512 * 49)
        with full_precision(x):
            return self.features(self.fc(x.float()))  # (B, d)

    def _saving(self, stage: nn.Sequential, x: Tensor) -> Tensor:
        for block in stage:
            x = checkpointed(block, block, x) if self.training and torch.is_grad_enabled() else block(x)
        return x


def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    """`blocks` residual blocks, the first of which halves the side of the image."""
    first = IResNetBlock(channels_in, channels, stride=2)
    return nn.Sequential(first, *(IResNetBlock(channels, channels, stride=1) for _ in range(blocks - 1)))

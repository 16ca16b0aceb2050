"""Parts that the backbones share: where mixed precision ends, and the last BatchNorm with or without its bias."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def body_autocast(x: Tensor, fp16: bool) -> AbstractContextManager:
    """Context of float16 autocast on CUDA when `fp16`; else an empty one: a caller's autocast stays in force."""
    return torch.autocast("cuda", dtype=torch.float16) if fp16 and x.is_cuda else nullcontext()


def full_precision(x: Tensor) -> AbstractContextManager:
    """Context that switches off the autocast of a caller: what runs inside must be fed float32."""
    # Entered only where there is something to switch off, which leaves exported graphs free of autocast regions.
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


class HalfSizeEncoder(nn.Module):
    """Images (B, 3, 112, 112) in [-1, 1] -> raw features (B, d) float32, for encoders of 56 pixels.

    Args:
        layers: from images to (B, width), halving the sides first; fc and BatchNorm follow, in float32.
        width: of what `layers` give.
        num_features: d.
        features_bias: False fixes the last BatchNorm's bias at zero, as in the other backbones.

    Example:
        >>> layers = nn.Sequential(nn.AvgPool2d(56), nn.Flatten())
        >>> HalfSizeEncoder(layers, 12, num_features=5, features_bias=False)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 5])
    """

    def __init__(self, layers: nn.Sequential, width: int, num_features: int, features_bias: bool) -> None:
        super().__init__()
        self.layers = layers
        self.fc = nn.Linear(width, num_features)
        self.features = nn.BatchNorm1d(num_features)
        if not features_bias:
            freeze_bias(self.features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        with full_precision(x):
            return self.features(self.fc(x.float()))  # (B, d)


def freeze_bias(norm: nn.BatchNorm1d) -> None:
    """Fix the bias of the last BatchNorm at zero without removing it.

    A trained bias shifts every feature by the same vector, and the norm of the sum need not grow with quality any
    more (it can even invert). Zero and without gradient it does nothing, while its state-dict key stays, so that
    weights still move both ways between this project and arcface_torch. Loading weights whose bias is not zero keeps
    that bias, fixed.
    """
    nn.init.zeros_(norm.bias)
    norm.bias.requires_grad_(False)


def checkpointed(module: nn.Module, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """`function(*arguments)`, whose activations are not kept for the backward pass but computed again there.

    Args:
        module: whose BatchNorms the function calls; they count and average a batch once only.
        function: from the first argument to a tensor; gradients are the same as without this.
        arguments: its own.
    """
    return checkpoint(
        function, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(module))
    )


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """BatchNorms of `module` use the batch's statistics, and leave the running ones and their counters alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, counter in before:
            norm.momentum, norm.num_batches_tracked = momentum, counter

"""Key encoder of the momentum queue (MoCo, He et al. 2020, eq. 2): a moving average of the backbone."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class MomentumEncoder(nn.Module):
    """A moving average of the backbone: theta_k <- m theta_k + (1 - m) theta_q; no gradient ever reaches it.

    Parameters are averaged. Running statistics of batch normalisation are the encoder's own: it sees the same images
    in the same mode as the backbone.

    Args:
        backbone: the query encoder, which is copied.
        momentum: m, in [0, 1].

    Example:
        >>> backbone = nn.Linear(1, 1, bias=False)
        >>> keys = MomentumEncoder(nn.Linear(1, 1, bias=False).requires_grad_(False), momentum=0.75)
        >>> _ = nn.init.zeros_(keys.encoder.weight), nn.init.ones_(backbone.weight)
        >>> keys.update(backbone)
        >>> keys.encoder.weight.item()
        0.25
    """

    def __init__(self, backbone: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        self.momentum = momentum
        self.encoder = copy.deepcopy(backbone).requires_grad_(False)

    @torch.no_grad()
    def update(self, backbone: nn.Module, share: Tensor | float = 1.0) -> None:
        """Move the parameters towards those of `backbone`, once after each optimiser step.

        Args:
            backbone: the query encoder.
            share: of the way, () or a number; 0 leaves them where they are.
        """
        weight = (1.0 - self.momentum) * share
        for key, query in zip(self.encoder.parameters(), backbone.parameters(), strict=True):
            key.lerp_(query.detach(), weight)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Keys (N, d): raw embeddings of images (N, 3, 112, 112)."""
        return self.encoder(images)

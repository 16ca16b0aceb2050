"""Quality of a view: one number a row, without gradient, and its running statistics (eq. 1).

Where the numbers come from: `qualities/`. Statistics, scale and gates are the same for every source.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .functional import NORM_RANGE, clip_norms, quality_indicator


class RunningQuality(nn.Module):
    """zhat of a batch from running mean and standard deviation of the quality numbers (eq. 1).

    Statistics: mu <- (1 - momentum) mu + momentum mean(batch), likewise sigma with the sample standard deviation
    (n - 1). They are updated in training mode before they are used; a batch with fewer than two rows or with a
    number that is not finite leaves them as they are. start="first_batch": the first batch initialises them;
    start="zero": they start at 0 and 0, as the authors' code has it. Numbers are clipped to `limits` first.
    """

    def __init__(
        self,
        c: float = 0.333,
        momentum: float = 0.01,
        start: str = "first_batch",
        floor: bool = True,
        limits: tuple[float, float] = NORM_RANGE,
    ) -> None:
        super().__init__()
        self.c, self.momentum, self.floor, self.limits = c, momentum, floor, limits
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.zeros(()))
        self.register_buffer("started", torch.tensor(start == "zero"))

    @torch.no_grad()
    def update(self, norms: Tensor) -> None:
        """Move the statistics towards those of one batch of numbers (N,)."""
        if norms.numel() < 2:
            return
        usable = norms.isfinite().all()
        norms = clip_norms(norms.to(self.mean.dtype), self.limits)
        for running, batch in ((self.mean, norms.mean()), (self.std, norms.std())):
            moved = torch.where(self.started, running + self.momentum * (batch - running), batch)
            running.copy_(torch.where(usable, moved, running))
        self.started.logical_or_(usable)

    def forward(self, norms: Tensor) -> Tensor:
        """zhat (N,) in [-1, 1] of numbers (N,), in the statistics' type, no gradient; updates them in training mode."""
        if self.training:
            self.update(norms)
        norms = norms.to(self.mean.dtype)
        return quality_indicator(norms, self.mean, self.std, self.c, floor=self.floor, limits=self.limits)

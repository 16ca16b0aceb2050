"""Quality of a view: one number a row, without gradient, and its running statistics (eq. 1).

The paper's source is the norm of the raw embedding. Any other source gives one number a row too; statistics, clipping,
scale and gates stay the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .functional import clip_norms, quality_indicator


class RunningQuality(nn.Module):
    """zhat of a batch from running mean and standard deviation of the quality numbers (eq. 1).

    Statistics: mu <- (1 - momentum) mu + momentum mean(batch), likewise sigma with the sample standard deviation
    (n - 1). They are updated in training mode before they are used; a batch with fewer than two rows or with a
    number that is not finite leaves them as they are. start="first_batch": the first batch initialises them;
    start="zero": they start at 0 and 0, as the authors' code has it.
    """

    def __init__(
        self, c: float = 0.333, momentum: float = 0.01, start: str = "first_batch", floor: bool = True
    ) -> None:
        super().__init__()
        self.c, self.momentum, self.floor = c, momentum, floor
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.zeros(()))
        self.register_buffer("started", torch.tensor(start == "zero"))

    @torch.no_grad()
    def update(self, norms: Tensor) -> None:
        """Move the statistics towards those of one batch of norms (N,)."""
        if norms.numel() < 2:
            return
        usable = norms.isfinite().all()
        norms = clip_norms(norms.to(self.mean.dtype))
        for running, batch in ((self.mean, norms.mean()), (self.std, norms.std())):
            moved = torch.where(self.started, running + self.momentum * (batch - running), batch)
            running.copy_(torch.where(usable, moved, running))
        self.started.logical_or_(usable)

    def forward(self, norms: Tensor) -> Tensor:
        """zhat (N,) in [-1, 1] of norms (N,), in the statistics' type, no gradient; updates them in training mode."""
        if self.training:
            self.update(norms)
        return quality_indicator(norms.to(self.mean.dtype), self.mean, self.std, self.c, floor=self.floor)

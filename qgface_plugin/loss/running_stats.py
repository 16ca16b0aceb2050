"""Running statistics: mu and sigma of the quality (eq. 1), and the threshold b as a quantile.

Where the numbers come from: `quality.py`. Statistics, scale and gates are the same for every source.
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


# --- The threshold b as a quantile: the user says which share is low-quality, and b follows ---------------------------


def sample_quantile(values: Tensor, q: float) -> Tensor:
    """The q-quantile () of values (N,), N at least 1: linear between the order statistics around q (N + 1).

    Weibull's rule (type 6 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996): of continuous values
    a share q lies at or below it on average, for small N too, as long as 1 <= q (N + 1) <= N.
    """
    ordered, place = values.sort().values, min(max(q * (len(values) + 1), 1.0), float(len(values)))
    below = int(place) - 1
    above = min(below + 1, len(values) - 1)
    return ordered[below] + (place - 1 - below) * (ordered[above] - ordered[below])


class RunningThreshold(nn.Module):
    """b <- b + momentum (quantile of the batch - b), in training mode; the first batch initialises it.

    quantile q in (0, 1). The batch is the global one, so b is the same on any number of ranks. Both buffers are saved.
    Values that are not finite leave it as it is.
    """

    value: Tensor  # () b
    started: Tensor

    def __init__(self, quantile: float, momentum: float = 0.01) -> None:
        super().__init__()
        self.quantile, self.momentum = quantile, momentum
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def update(self, u: Tensor) -> None:
        """Move b towards the quantile of u (P,) in [0, 1], at least one."""
        found = sample_quantile(u.to(self.value.dtype), self.quantile)
        usable = u.isfinite().all()
        moved = torch.where(self.started, self.value + self.momentum * (found - self.value), found)
        self.value.copy_(torch.where(usable, moved, self.value))
        self.started.logical_or_(usable)

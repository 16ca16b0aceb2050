"""The threshold b as a quantile: the user says which share is low-quality, and b follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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

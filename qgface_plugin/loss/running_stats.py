"""Running statistics: mu and sigma of the quality scores (eq. 1), and the threshold b as a quantile.

Where the scores come from: `quality.py`. Statistics, scale and gates are the same for every source.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .functional import NORM_RANGE, clip_norms, quality_indicator


def _follow(running: Tensor, batch: Tensor, *, momentum: float, started: Tensor, usable: Tensor) -> None:
    """Move () `running`, in place, towards the batch's value; onto it at first, and not at all if not `usable`."""
    moved = torch.where(started, torch.lerp(running, batch, momentum), batch)
    running.copy_(torch.where(usable, moved, running))


class RunningQuality(nn.Module):
    """zhat of a batch from the running mean and standard deviation of the quality scores (eq. 1).

    mu <- (1 - momentum) mu + momentum mean(batch), likewise sigma with the sample standard deviation (n - 1). They are
    updated in training mode before they are used; a batch with fewer than two rows or with a score that is not finite
    leaves them as they are.

    Args:
        c: slope of eq. 1.
        momentum: weight of the current batch in mu and sigma, in [0, 1].
        start: "first_batch": the first batch initialises them; "zero": they start at 0 and 0 (the authors' code).
        floor: division by max(sigma, 1e-3), else by sigma + 1e-3 (the authors' code).
        limits: (low, high) that scores are clipped to first.

    Example:
        >>> quality = RunningQuality()
        >>> zhat = quality(torch.tensor([18.0, 20.0, 22.0]))  # the first batch: mu = 20, sigma = 2
        >>> [round(z, 3) for z in zhat.tolist()]
        [-0.333, 0.0, 0.333]
    """

    mean: Tensor  # () mu
    std: Tensor  # () sigma
    started: Tensor  # () bool, whether a batch has been seen

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
    def update(self, scores: Tensor) -> None:
        """Move the statistics towards those of one batch of scores (N,)."""
        if scores.numel() < 2:
            return
        usable = (scores.abs() < math.inf).all()
        std, mean = torch.std_mean(clip_norms(scores.to(self.mean.dtype), self.limits))
        for running, batch in ((self.mean, mean), (self.std, std)):
            _follow(running, batch, momentum=self.momentum, started=self.started, usable=usable)
        self.started.logical_or_(usable)

    def forward(self, scores: Tensor) -> Tensor:
        """zhat (N,) in [-1, 1] of scores (N,), in the statistics' type, no gradient; updates them in training mode."""
        if self.training:
            self.update(scores)
        scores = scores.to(self.mean.dtype)
        return quality_indicator(scores, self.mean, self.std, self.c, floor=self.floor, limits=self.limits)


# --- The threshold b as a quantile: the user says which share is low-quality, and b follows ---------------------------


def sample_quantile(values: Tensor, q: float) -> Tensor:
    """The q-quantile () of values (N,), N at least 1: linear between the order statistics around q (N + 1).

    Weibull's rule (type 6 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996): of continuous values
    a share q lies at or below it on average, for small N too, as long as 1 <= q (N + 1) <= N.
    """
    ordered, rank = values.sort().values, min(max(q * (len(values) + 1), 1.0), float(len(values)))
    below = int(rank) - 1
    above = min(below + 1, len(values) - 1)
    return ordered[below] + (rank - 1 - below) * (ordered[above] - ordered[below])


class RunningThreshold(nn.Module):
    """The threshold b that follows a quantile of u: b <- b + momentum (quantile of the batch - b).

    The first batch initialises it. The batch is the global one, so b is the same on any number of ranks. Both buffers
    are saved. A batch with a value that is not finite leaves it as it is.

    Args:
        quantile: share of the values that is to lie at or below b, in (0, 1).
        momentum: weight of the current batch, in [0, 1].

    Example:
        >>> threshold = RunningThreshold(quantile=0.5)
        >>> threshold.update(torch.tensor([0.25, 0.5, 1.0]))
        >>> float(threshold.value)
        0.5
    """

    value: Tensor  # () b
    started: Tensor  # () bool, whether a batch has been seen

    def __init__(self, quantile: float, momentum: float = 0.01) -> None:
        super().__init__()
        self.quantile, self.momentum = quantile, momentum
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def update(self, u: Tensor) -> None:
        """Move b towards the quantile of u (P,) in [0, 1], at least one."""
        usable = (u.abs() < math.inf).all()
        quantile = sample_quantile(u.to(self.value.dtype), self.quantile)
        _follow(self.value, quantile, momentum=self.momentum, started=self.started, usable=usable)
        self.started.logical_or_(usable)

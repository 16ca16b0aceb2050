"""Class centres that compete in a step when `sample_rate` < 1, drawn without a random generator.

The priority of a class is a hash of (seed, draw, class), so a draw is the same on any number of ranks, after a resume,
and after the centres have been sharded anew, and no rank has to ask another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1024  # classes that share a quota; a rank that owns part of a block draws the whole of it
_GOLDEN, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685  # of SplitMix64
_LAST = 2**63 - 1


@dataclass(frozen=True)
class CompetingClasses:
    """This rank's class centres that compete in a step.

    Attributes:
        position: (N,) index of each row's class among them, -1 where another rank owns it.
        index: (k,) ascending, which of this rank's centres they are; None for all.
        mask: (n_local,) bool, the same as a mask; None for all.
    """

    position: Tensor
    index: Tensor | None = None
    mask: Tensor | None = None

    def of(self, centres: Tensor) -> Tensor:
        """Those (k, d) of this rank's centres (n_local, d) that compete."""
        return centres if self.index is None else centres[self.index]


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's output function (Steele et al., 2014) on int64, which wraps as unsigned arithmetic does."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _FIRST
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _SECOND
    return x ^ (x >> 31 & (1 << 33) - 1)


def priorities(classes: Tensor, draw: Tensor, seed: int) -> Tensor:
    """The priority of each class (int64) in [0, 2^63), uniform and independent over classes, draws () and seeds."""
    stream = _mix(_mix(draw + seed % 2**32 * _GOLDEN % 2**62) + _GOLDEN)
    return _mix(classes * _GOLDEN + stream) & _LAST


def sampled_classes(
    labels: Tensor, draw: Tensor, *, seed: int, rate: float, num_classes: int, start: int, length: int
) -> Tensor:
    """The classes that compete in one draw.

    All classes of the batch compete. Of each BLOCK of classes the ones with the lowest priorities are added until the
    share `rate` of it is reached: floor(rate n) classes in all, or a few more where a block has more classes of the
    batch than its share (An et al., "Killing Two Birds with One Stone", sample each rank's classes so).

    Args:
        labels: (N,) classes of the global batch.
        draw: () number of the draw.
        seed: the same on every rank.
        rate: in [0, 1]; 0: only the classes of the batch.
        num_classes: n over all ranks.
        start: first class of this rank.
        length: classes of this rank.

    Returns:
        (length,) bool, for the classes [start, start + length).
    """
    first, last = start // BLOCK, -(-(start + length) // BLOCK)
    classes = torch.arange(first * BLOCK, last * BLOCK, device=labels.device)
    priority = priorities(classes, draw, seed)
    near = (labels >= first * BLOCK) & (labels < last * BLOCK)
    here = torch.where(near, labels - first * BLOCK, len(classes))  # one entry more, for the labels of others
    present = torch.zeros(len(classes) + 1, dtype=torch.bool, device=labels.device).index_fill(0, here, True)[:-1]
    priority = priority.masked_fill(present, -1).masked_fill(classes >= num_classes, _LAST).view(-1, BLOCK)
    edges = torch.arange(first, last + 1, device=labels.device) * BLOCK
    quota = (rate * edges.clamp_max(num_classes).double()).floor().long().diff()
    highest = priority.sort(1).values.gather(1, (quota - 1).clamp_min(0).unsqueeze(1))
    highest = torch.where(quota.unsqueeze(1) > 0, highest, -1)
    return (priority <= highest).flatten()[start - first * BLOCK :][:length]

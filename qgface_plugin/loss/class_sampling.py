"""Which class centres compete in a step when `sample_rate` < 1: drawn without a random generator.

A class's lot is a hash of (seed, draw, class), so a draw is the same on any number of ranks, after a resume, and
after the centres have been sharded anew, and no rank has to ask another.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024  # classes that share a quota; a rank that owns part of a block draws the whole of it
_GOLDEN, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685  # of SplitMix64
_LAST = 2**63 - 1


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's output function (Steele et al., 2014) on int64, which wraps as unsigned arithmetic does."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _FIRST
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _SECOND
    return x ^ (x >> 31 & (1 << 33) - 1)


def lots(classes: Tensor, draw: Tensor, seed: int) -> Tensor:
    """The lot of each class (int64) in [0, 2^63), uniform and independent over classes, draws () and seeds."""
    stream = _mix(_mix(draw + seed % 2**32 * _GOLDEN % 2**62) + _GOLDEN)
    return _mix(classes * _GOLDEN + stream) & _LAST


def sampled_classes(
    labels: Tensor, draw: Tensor, *, seed: int, rate: float, num_classes: int, start: int, length: int
) -> Tensor:
    """Mask (length,) bool of the classes [start, start + length) that compete in draw number `draw` ().

    labels (N,): classes of the global batch; all of them compete. Of each BLOCK of classes the ones with the lowest
    lots are added until the share `rate` in (0, 1] of it is reached: floor(rate n) classes in all, or a few more where
    a block has more classes of the batch than its share (An et al., "Killing Two Birds with One Stone", sample each
    rank's classes so).
    """
    first, last = start // BLOCK, -(-(start + length) // BLOCK)
    classes = torch.arange(first * BLOCK, last * BLOCK, device=labels.device)
    lot = lots(classes, draw, seed)
    near = (labels >= first * BLOCK) & (labels < last * BLOCK)
    here = torch.where(near, labels - first * BLOCK, len(classes))  # one place more for the labels of others
    present = torch.zeros(len(classes) + 1, dtype=torch.bool, device=labels.device).index_fill(0, here, True)[:-1]
    lot = lot.masked_fill(present, -1).masked_fill(classes >= num_classes, _LAST).view(-1, BLOCK)
    edges = torch.arange(first, last + 1, device=labels.device) * BLOCK
    quota = (rate * edges.clamp_max(num_classes).double()).floor().long().diff()
    highest = lot.sort(1).values.gather(1, (quota - 1).clamp_min(0).unsqueeze(1))
    highest = torch.where(quota.unsqueeze(1) > 0, highest, -1)
    return (lot <= highest).flatten()[start - first * BLOCK :][:length]

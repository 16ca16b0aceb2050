"""A softmax whose columns are sharded over the ranks: what one rank knows of it, and how it is finished.

Both terms are such a softmax: the columns of the classification are the class centres, those of the contrast the queue
entries, and a rank holds some of either.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..utils import distributed


class PartialSoftmax(NamedTuple):
    """One rank's part of the softmax of R rows, or, once finished, the whole.

    Attributes:
        lse: (R,) log-sum-exp of the logits over this rank's columns, -inf where it has none.
        target: (R,) logit of the target, or what this rank adds to it: 0 where another rank holds it.

    Example:
        >>> part = PartialSoftmax(lse=torch.tensor([2.0]), target=torch.tensor([1.5]))
        >>> nothing = PartialSoftmax.empty(part.lse)
        >>> whole, _ = finish(part, nothing)  # alone, a rank's part is the whole
        >>> (whole.lse - whole.target).item()
        0.5
    """

    lse: Tensor
    target: Tensor

    @classmethod
    def empty(cls, like: Tensor) -> PartialSoftmax:
        """The softmax of no row, with the type and the device of `like`; no gradient."""
        return cls(like.new_zeros(0), like.new_zeros(0))


def finish(hq: PartialSoftmax, lq: PartialSoftmax) -> tuple[PartialSoftmax, PartialSoftmax]:
    """Both softmaxes over the columns of all ranks, from each rank's parts.

    Two all-reduces for both together, of (R,) maxima and (2, R) sums, R the rows of `hq` and `lq`; none in the backward
    pass. Gradients reach each rank's parts as far as its own columns have contributed.
    """
    if distributed.world_size() == 1:
        return hq, lq
    count = len(hq.lse)
    lse, target = distributed.finish_softmax(torch.cat([hq.lse, lq.lse]), torch.cat([hq.target, lq.target]))
    return PartialSoftmax(lse[:count], target[:count]), PartialSoftmax(lse[count:], target[count:])

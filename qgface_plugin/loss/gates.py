"""Gates: which views are classified (eq. 3) and which pairs are contrasted (eqs. 2 and 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..config.method import QGFaceConfig
from . import functional as F


class Taking(NamedTuple):
    """Rows that take part in a term.

    A CPU computes them alone, by their indices, which costs one read of the device. A GPU would have to wait for that:
    there all rows are computed, and those that take no part weigh nothing.

    Attributes:
        part: (N,) bool.
        indices: (R,) ascending, where `part` is True; None: all N rows are computed.

    Example:
        >>> part, rows = torch.tensor([True, False, True]), torch.tensor([1.0, 2.0, 3.0])
        >>> alone, weighed = Taking(part, torch.tensor([0, 2])), Taking(part)
        >>> alone.of(rows), weighed.of(rows)
        (tensor([1., 3.]), tensor([1., 2., 3.]))
        >>> alone.total(alone.of(rows)) == weighed.total(weighed.of(rows))
        tensor(True)
    """

    part: Tensor
    indices: Tensor | None = None

    def of(self, rows: Tensor) -> Tensor:
        """The rows (R, ...) of (N, ...) that are computed."""
        return rows if self.indices is None else rows[self.indices]

    def total(self, each: Tensor) -> Tensor:
        """() the sum of `each` (R,), one number per row computed, over the rows that take part."""
        return (each if self.indices is not None else each * self.part).sum()

    def twice(self) -> Taking:
        """The same rows of (2N, ...), first half and second half."""
        part = torch.cat([self.part, self.part])
        if self.indices is None:
            return Taking(part)
        return Taking(part, torch.cat([self.indices, self.indices + len(self.part)]))


class Gates(NamedTuple):
    """What the gates of a step let through, over the global batch; without gradient.

    Attributes:
        b: the threshold now, () where it is a quantile.
        u: (N,) quality of the views in [0, 1], the scale that b lives on.
        u_pair: (P,) quality of the pairs, eq. 2; empty where rows are single views.
        rows: the views that are classified, eq. 3.
        pairs: the pairs that are contrasted, eq. 4; none without a queue.
    """

    b: float | Tensor
    u: Tensor
    u_pair: Tensor
    rows: Taking
    pairs: Taking


def pair_gate(u_pair: Tensor, config: QGFaceConfig, b: float | Tensor | None = None) -> Tensor:
    """Pairs that take part in the contrast: eq. 4; strictly u_p < b in the authors' code; or all.

    Args:
        u_pair: (P,) in [0, 1].
        config: the settings.
        b: the threshold now, a tensor () where it is a quantile; None: config.b.

    Returns:
        (P,) bool.
    """
    b = config.b if b is None else b
    if config.contrastive_gate == "none":
        return torch.ones_like(u_pair, dtype=torch.bool)
    if config.contrastive_gate == "zero_logits":
        return u_pair < b if isinstance(b, Tensor) or b > 0 else torch.ones_like(u_pair, dtype=torch.bool)
    return F.contrastive_gate(u_pair, b)


def true_indices(*masks: Tensor) -> list[Tensor]:
    """Ascending indices at which each mask (N,) is True; one read of the device for all masks together."""
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [(~mask).byte().argsort(stable=True)[:count] for mask, count in zip(masks, counts, strict=True)]

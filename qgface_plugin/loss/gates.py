"""Gates: which views are classified (eq. 3) and which pairs are contrasted (eqs. 2 and 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..config.method import QGFaceConfig
from . import functional as F


class Gates(NamedTuple):
    """What the gates of a step let through, over the global batch; without gradient.

    Attributes:
        b: the threshold now, () where it is a quantile.
        u: (N,) quality of the views in [0, 1], the scale that b lives on.
        u_pair: (P,) quality of the pairs, eq. 2; empty where rows are single views.
        rows: (R,) ascending, indices of the views that are classified, eq. 3.
        pairs: (p,) ascending, indices of the pairs that are contrasted, eq. 4; empty without a queue.
    """

    b: float | Tensor
    u: Tensor
    u_pair: Tensor
    rows: Tensor
    pairs: Tensor


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

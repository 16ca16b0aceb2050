"""The named scalars of a step that loggers read: `criterion.terms`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .functional import pair_indicator

if TYPE_CHECKING:
    from .partial_fc import QGPartialFC


@torch.no_grad()
def summary(
    criterion: QGPartialFC, loss: Tensor, classification: Tensor, contrastive: Tensor, norms: Tensor, u: Tensor
) -> dict[str, Tensor]:
    """0-d tensors by name, over the global batch, without gradient and without waiting for the device.

    loss, classification, contrastive; norm_mean, norm_std: running mu and sigma; lq_share_view: share of views with
    u <= b. With pairs also lq_share_pair, and norm_order: share of pairs whose original view has the larger norm.
    With a queue also queue_fill, living entries / Q.
    """
    b, quality = criterion.config.b, criterion.margin_softmax.quality
    out = {
        "loss": loss.detach(),
        "classification": classification.detach(),
        "contrastive": contrastive.detach(),
        "lq_share_view": (u <= b).float().mean(),
        "norm_mean": quality.mean.clone(),
        "norm_std": quality.std.clone(),
    }
    if criterion.views == 2:
        (u_original, u_degraded), (z_original, z_degraded) = u.chunk(2), norms.chunk(2)
        out["lq_share_pair"] = (pair_indicator(u_degraded, u_original) <= b).float().mean()
        out["norm_order"] = (z_original > z_degraded).float().mean()
        out["norm_original"], out["norm_degraded"] = z_original.mean(), z_degraded.mean()
    if criterion.queue is not None:
        out["queue_fill"] = criterion.queue.living() / criterion.queue.limit
    return out

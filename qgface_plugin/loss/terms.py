"""The named scalars of a step that loggers read: `criterion.terms`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .feature_queue import FeatureQueue
from .functional import pair_indicator

if TYPE_CHECKING:
    from .partial_fc import QGPartialFC

PAIRS, ENTRIES = 32, 512  # pairs and queue entries at most that the cosines to negatives are measured on


@torch.no_grad()
def summary(
    criterion: QGPartialFC,
    loss: Tensor,
    classification: Tensor,
    contrastive: Tensor,
    norms: Tensor,
    numbers: Tensor,
    u: Tensor,
    embeddings: Tensor,
    keys: Tensor,
    column: Tensor,
) -> dict[str, Tensor]:
    """0-d tensors by name, over the global batch, without gradient and without waiting for the device.

    norms, numbers, u (N,): of the embeddings, of the source of quality, and the latter on the threshold's scale;
    embeddings, keys (N, d) unit vectors; column (N,) as `contrast` takes it.

    loss, classification, contrastive; b: the threshold; lq_share_view: share of views with u <= b; norm_mean, norm_std:
    running mu and sigma where quality is the norm. Another source has quality_mean and quality_std for these, and
    norm_mean and norm_std are the batch's. With pairs also lq_share_pair; norm_order and quality_order: share of pairs
    whose original view has the larger norm, the larger quality (equal ones count as half); positive_cosine: mean cosine
    of a pair's views. With a queue also queue_fill, living entries / Q, and `negative_cosines`.
    """
    b, quality = criterion.margin_softmax.b, criterion.margin_softmax.quality
    running = {"mean": quality.mean.clone(), "std": quality.std.clone()}
    by_norm = criterion.config.quality == "norm"
    out = {
        "loss": loss.detach(),
        "classification": classification.detach(),
        "contrastive": contrastive.detach(),
        "lq_share_view": (u <= b).float().mean(),
        "b": b.clone() if isinstance(b, Tensor) else u.new_full((), b),
        "norm_mean": running["mean"] if by_norm else norms.mean(),
        "norm_std": running["std"] if by_norm else norms.std(),
    }
    if not by_norm:
        out |= {"quality_mean": running["mean"], "quality_std": running["std"]}
    if criterion.views == 2:
        (u_original, u_degraded), (z_original, z_degraded) = u.chunk(2), norms.chunk(2)
        out["lq_share_pair"] = (pair_indicator(u_degraded, u_original) <= b).float().mean()
        out["norm_order"] = (z_original > z_degraded).float().mean()
        better, worse = numbers.chunk(2)
        out["quality_order"] = ((better > worse).float() + 0.5 * (better == worse).float()).mean()
        out["norm_original"], out["norm_degraded"] = z_original.mean(), z_degraded.mean()
        query, key = embeddings.chunk(2)[1], keys.chunk(2)[0]
        out["positive_cosine"] = (query * key).sum(1).mean()
    if criterion.queue is not None:
        out["queue_fill"] = criterion.queue.living() / criterion.queue.limit
        if len(criterion.queue.serial):
            own = column.chunk(2)[1]
            out |= negative_cosines(query[:PAIRS], own[:PAIRS], criterion.queue, criterion.weight)
    return out


@torch.no_grad()
def negative_cosines(query: Tensor, own: Tensor, queue: FeatureQueue, centres: Tensor) -> dict[str, Tensor]:
    """How near the negatives are to the queries, the paper's Fig. 3b: 0-d tensors.

    negative_cosine: mean over queries and living entries of other identities; hardest_cosine: mean over the queries of
    their highest; 0 where there is no negative. Of this rank's part of the queue at most ENTRIES slots are looked at,
    evenly spaced: the numbers are estimates, and the highest cosine is that of the sample.
    query (P, d) unit vectors; own (P,) their classes as the queue numbers them.
    """
    slots = torch.arange(0, len(queue.serial), -(-len(queue.serial) // ENTRIES), device=query.device)
    cosine = query @ queue.refreshed(centres, slots).to(query.dtype).T  # (P, slots)
    negative = queue.alive()[slots] & (own.unsqueeze(1) != queue.labels[slots])
    found = negative.any(1)
    highest = cosine.masked_fill(~negative, -1.0).amax(1)
    return {
        "negative_cosine": (cosine * negative).sum() / negative.sum().clamp_min(1),
        "hardest_cosine": (highest * found).sum() / found.sum().clamp_min(1),
    }

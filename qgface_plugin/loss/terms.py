"""Named scalars of a step that loggers read: `criterion.terms`."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from .batch import GlobalBatch
from .feature_queue import FeatureQueue
from .gates import Gates
from .quality import Quality
from .teacher import cosines

PAIRS, ENTRIES = 32, 512  # pairs and queue entries at most that the cosines to negatives are measured on


class Measured(NamedTuple):
    """What a step has left for loggers, as `QGPartialFC` had it after that step: `terms` and `u_views`."""

    terms: dict[str, Tensor]
    u_views: Tensor | None


class Losses(NamedTuple):
    """The loss and its terms, () each: those of eq. 5, and the pull to the teacher where there is one."""

    loss: Tensor
    classification: Tensor
    contrastive: Tensor
    pull: Tensor | None = None


@torch.no_grad()
def summary(
    losses: Losses,
    batch: GlobalBatch,
    quality: Quality,
    gates: Gates,
    queue: FeatureQueue | None,
    centres: Tensor,
) -> dict[str, Tensor]:
    """The scalars of one step over the global batch, without waiting for the device.

    Always: loss, classification, contrastive; b: the threshold; lq_share_view: share of views with u <= b; norm_mean,
    norm_std: running mu and sigma where quality is the norm. Another source has quality_mean and quality_std for these,
    and norm_mean and norm_std are the batch's.

    With pairs: lq_share_pair: share of pairs with u_p <= b; norm_order, quality_order: share of pairs whose original
    view has the larger norm, the larger quality (equal ones count as half); norm_original, norm_degraded: mean norms of
    the views; positive_cosine: mean cosine of a pair's views.

    With a queue: queue_fill: living entries / Q; `negative_cosines`.

    With a teacher: teacher_cosine_original, teacher_cosine_degraded: mean cosine of the views to the teacher's
    embedding of the original; pull: the term, where it is in the loss.

    Args:
        losses: of this step.
        batch: the global batch.
        quality: of its rows.
        gates: of its rows and pairs.
        queue: this rank's part, or None.
        centres: (n_local, d) this rank's class centres.

    Returns:
        0-d tensors by name, without gradient.
    """
    b, u, norms = gates.b, gates.u, batch.norms
    mean, std = torch.stack([quality.mean, quality.std]).unbind()
    out = {name: value.detach() for name, value in losses._asdict().items() if value is not None}
    out["lq_share_view"] = (u <= b).float().mean()
    out["b"] = b.clone() if isinstance(b, Tensor) else constant(b, u.dtype, u.device)
    out["norm_mean"] = mean if quality.of_norms else norms.mean()
    out["norm_std"] = std if quality.of_norms else norms.std()
    if not quality.of_norms:
        out |= {"quality_mean": mean, "quality_std": std}
    if len(gates.u_pair):
        (z_original, z_degraded), (better, worse) = norms.chunk(2), quality.scores.chunk(2)
        query, key = batch.unit.detach().chunk(2)[1], batch.keys.detach().chunk(2)[0]
        of_pairs = {
            "lq_share_pair": gates.u_pair <= b,
            "norm_order": z_original > z_degraded,
            "quality_order": (better - worse).sign() * 0.5 + 0.5,
            "norm_original": z_original,
            "norm_degraded": z_degraded,
            "positive_cosine": (query * key).sum(1),
        }
        means = torch.stack([of_pair.to(norms.dtype) for of_pair in of_pairs.values()]).mean(1)  # one for all of them
        out |= dict(zip(of_pairs, means.unbind(), strict=True))
    if batch.teacher is not None:
        to_teacher = cosines(batch.unit, batch.teacher).split(len(batch.teacher))
        for view, cosine in zip(("original", "degraded"), to_teacher, strict=False):
            out[f"teacher_cosine_{view}"] = cosine.mean()
    if queue is not None:
        out["queue_fill"] = queue.living() / queue.limit
        if len(queue.serial):
            own = batch.column.chunk(2)[1]
            out |= negative_cosines(query[:PAIRS], own[:PAIRS], queue, centres)
    return out


@cache
def constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """() made once; nothing writes to it."""
    return torch.full((), value, dtype=dtype, device=device)


@torch.no_grad()
def negative_cosines(query: Tensor, own: Tensor, queue: FeatureQueue, centres: Tensor) -> dict[str, Tensor]:
    """How near the negatives are to the queries, the paper's Fig. 3b.

    Of this rank's part of the queue at most ENTRIES slots are looked at, evenly spaced: the numbers are estimates, and
    the highest cosine is that of the sample.

    Args:
        query: (P, d) unit vectors.
        own: (P,) their classes as the queue numbers them.
        queue: this rank's part.
        centres: (n_local, d) this rank's class centres.

    Returns:
        0-d tensors. negative_cosine: mean over queries and living entries of other identities; hardest_cosine: mean
        over the queries of their highest; 0 where there is no negative.
    """
    slots = torch.arange(0, len(queue.serial), -(-len(queue.serial) // ENTRIES), device=query.device)
    cosine = query @ queue.refreshed(centres, slots).to(query.dtype).T  # (P, slots)
    negative = queue.alive()[slots] & (own.unsqueeze(1) != queue.labels[slots])
    has_negative = negative.any(1)
    highest = cosine.masked_fill(~negative, -1.0).amax(1)
    return {
        "negative_cosine": (cosine * negative).sum() / negative.sum().clamp_min(1),
        "hardest_cosine": (highest * has_negative).sum() / has_negative.sum().clamp_min(1),
    }

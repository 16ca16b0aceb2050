"""The denominator of eq. 14 over the queue, a block of entries at a time: no copy of the queue, no matrix of logits.

Queue entries receive no gradient, so the slope of the log-sum-exp with respect to a query is a weighted mean of
entries, and it is summed up in the same pass (the online softmax of Milakov and Gimelshein, 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .config.method import QGFaceConfig


class _QueueLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, query: Tensor, own: Tensor, blocks: Iterable[tuple[Tensor, Tensor]], config: QGFaceConfig
    ) -> Tensor:
        top = query.new_full((len(query), 1), -math.inf)
        total, slope = torch.zeros_like(top), torch.zeros_like(query)
        for features, labels in blocks:  # (c, d), (c,)
            logits = query @ features.T  # (R, c)
            same = own.unsqueeze(1) == labels.unsqueeze(0)
            flat = None  # where the cosine does not depend on the query
            if not config.renormalise:
                flat = logits.abs() > 1.0
                logits.clamp_(-1.0, 1.0)
            if config.same_identity == "zero":
                flat = same if flat is None else flat | same
                logits.masked_fill_(same, 0.0)
            else:
                logits.masked_fill_(same, -math.inf)
            logits.mul_(config.s)
            higher = torch.maximum(top, logits.amax(1, keepdim=True))
            shift = higher.nan_to_num(nan=math.nan, posinf=math.inf, neginf=0.0)
            weights, shrink = logits.sub_(shift).exp_(), (top - shift).exp()
            total, top = total * shrink + weights.sum(1, keepdim=True), higher
            if ctx.needs_input_grad[0]:
                weights = weights if flat is None else weights.masked_fill_(flat, 0.0)
                slope = slope.mul_(shrink).addmm_(weights, features)
            del features, logits, weights, same, flat  # before the next block is made
        ctx.save_for_backward((slope * config.s / total).where(total > 0, 0.0))
        return (total.log() + top).squeeze(1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient.unsqueeze(1) * slope, None, None, None


def queue_logsumexp(
    query: Tensor, own: Tensor, blocks: Iterable[tuple[Tensor, Tensor]], config: QGFaceConfig
) -> Tensor:
    """log sum exp of s cos(q, f) over queue entries f of other identities, (R,); -inf where there is none.

    query (R, d) unit vectors; own (R,) their identities; blocks: entries that compete, as features (c, d) and labels
    (c,), see `FeatureQueue.blocks`; config.same_identity="zero" keeps entries of the own identity with cosine 0,
    config.renormalise=False clamps cosines to [-1, 1]. The gradient reaches the queries only.
    """
    return _QueueLogSumExp.apply(query, own, blocks, config)

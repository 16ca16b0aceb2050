"""The contrastive term (eqs. 13-14): `contrast` on one rank's share of the queue, `mean_contrast` over all of it.

    L = -log( e^(s cos(q, k)) / (e^(s cos(q, k)) + sum over f of e^(s cos(q, f))) )

q: the degraded view of a pair, k: its original view, f: queue entries of other identities, as they would be now
(section III-C, `FeatureQueue.refreshed`). Only pairs that eq. 4 lets through are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..config.method import QGFaceConfig
from . import functional as F
from .feature_queue import Block, FeatureQueue
from .gates import Taking
from .partial_softmax import PartialSoftmax


def contrast(
    embeddings: Tensor,
    keys: Tensor,
    column: Tensor,
    pairs: Taking,
    queue: FeatureQueue,
    centres: Tensor,
    candidates: Tensor | None,
    config: QGFaceConfig,
    *,
    owned: bool = False,
) -> PartialSoftmax:
    """This rank's part of eqs. 13-14: for each query, the log-sum-exp over its negatives here, and its positive.

    Args:
        embeddings: (2P, d) unit vectors, original views first.
        keys: (2P, d) the same, or those of the momentum encoder.
        column: (2P,) index of the identity among this rank's centres, -1 where another rank owns it.
        pairs: those that take part; p of them are computed.
        queue: this rank's entries.
        centres: (n_local, d) raw class centres now.
        candidates: (n_local,) bool, classes whose entries compete; None for all.
        config: the settings.
        owned: every identity is this rank's, as on one rank; saves operations.

    Returns:
        lse (R,): over the negatives f, s cos(q, f), R = p queries, or 2p with coupling="both"; target (R,): s cos(q, k)
        on the rank that owns the identity, 0 elsewhere. Gradients reach the queries; they reach the positives only with
        `detach_key=False`; they never reach the queue or the centres.
    """
    half = len(embeddings) // 2
    query, own, key = pairs.of(embeddings[half:]), pairs.of(column[half:]), pairs.of(keys[:half])
    if config.coupling == "both":
        query = torch.cat([query, pairs.of(embeddings[:half])])
        own, key = torch.cat([own, own]), torch.cat([key, pairs.of(keys[half:])])
    key = key.detach() if config.detach_key else key

    positive = (query * key).sum(1)  # cos(q, k)
    if not config.renormalise:
        positive = positive.clamp(-1.0, 1.0)
    blocks = queue.blocks(centres, candidates, renormalise=config.renormalise)
    negatives = queue_logsumexp(query, own, blocks, config) if len(query) else positive
    target = positive * config.s
    return PartialSoftmax(negatives, target if owned else torch.where(own >= 0, target, 0.0))


def mean_contrast(
    softmax: PartialSoftmax, config: QGFaceConfig, pairs: Taking, entries: Callable[[], Tensor]
) -> Tensor:
    """Eqs. 13-14 over all ranks: the mean over all queries, of which those gated out add 0 (or log(1 + Q)).

    Args:
        softmax: finished, of the R queries that are computed.
        config: the settings.
        pairs: P of the global batch, and which of them take part.
        entries: gives () Q, living entries over all ranks, where a setting asks for it.

    Returns:
        (), exactly 0 where no pair takes part.
    """
    each = F.info_nce(softmax.target, softmax.lse, positive_in_denominator=config.positive_in_denominator)
    taking = pairs.twice() if config.coupling == "both" else pairs
    loss, queries = taking.total(each), len(taking.part)
    if config.contrastive_gate == "zero_logits":
        loss = loss + (~taking.part).sum() * (1.0 + entries().to(each.dtype)).log()
    loss = loss / max(1, queries)  # single views have no pairs
    # an empty queue leaves nothing to contrast and nothing to rescale
    if not config.queue_rescale:
        return loss
    return loss * math.log(129.0) / (1.0 + entries().to(each.dtype)).log().clamp_min(math.log(2.0))


# --- The denominator of eq. 14 over the queue, a block of entries at a time -------------------------------------------
# No copy of the queue, no matrix of logits. Queue entries receive no gradient, so the slope of the log-sum-exp with
# respect to a query is a weighted mean of entries, and it is summed up in the same pass (the online softmax of Milakov
# and Gimelshein, 2018).


class _QueueLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query: Tensor, own: Tensor, blocks: Iterable[Block], config: QGFaceConfig) -> Tensor:
        top: Tensor | None = None
        total = slope = query[:0].detach()
        for features, labels, dead in blocks:  # (c, d), (c,), (c,) or None
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
            if dead is not None:
                logits.masked_fill_(dead, -math.inf)
            logits.mul_(config.s)
            highest = logits.amax(1, keepdim=True)
            higher = highest if top is None else torch.maximum(top, highest)
            shift = higher.nan_to_num(nan=math.nan, posinf=math.inf, neginf=0.0)
            weights = logits.sub_(shift).exp_()
            here = weights.sum(1, keepdim=True)
            if ctx.needs_input_grad[0] and flat is not None:
                weights.masked_fill_(flat, 0.0)
            if top is None:
                total, slope = here, weights @ features if ctx.needs_input_grad[0] else slope
            else:
                shrink = (top - shift).exp()
                total = total * shrink + here
                slope = slope.mul_(shrink).addmm_(weights, features) if ctx.needs_input_grad[0] else slope
            top = higher
            del features, dead, logits, weights, same, flat  # before the next block is made
        if top is None:
            ctx.save_for_backward(torch.zeros_like(query))
            return query.new_full((len(query),), -math.inf)
        if ctx.needs_input_grad[0]:  # the largest weight is 1, or there is none
            ctx.save_for_backward(slope * config.s / total.clamp_min(1.0))
        return (total.log() + top).squeeze(1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient.unsqueeze(1) * slope, None, None, None


def queue_logsumexp(query: Tensor, own: Tensor, blocks: Iterable[Block], config: QGFaceConfig) -> Tensor:
    """log sum exp of s cos(q, f) over queue entries f of other identities; -inf where there is none.

    Args:
        query: (R, d) unit vectors.
        own: (R,) their identities.
        blocks: entries, see `FeatureQueue.blocks`.
        config: same_identity="zero" keeps entries of the own identity with cosine 0, renormalise=False clamps cosines
            to [-1, 1].

    Returns:
        (R,); the gradient reaches the queries only.
    """
    return _QueueLogSumExp.apply(query, own, blocks, config)

"""Equations of QGFace, each once, as pure functions: tensors in, tensors out, nothing remembered, nothing mutated.

Paper: Song & Wang, "Quality-Guided Joint Training for Mixed-Quality Face Recognition"; eq. numbers are theirs. Modules
with state call these functions; docs/method.md says which. Three are closed forms that no training step runs, since a
step computes the same a chunk at a time: `contrastive_loss` and `refresh` (the tests compare them with what runs) and
`gradient_scale` (the paper's Fig. 2).

Legend of shapes: N views (rows), P pairs, Q queue entries, n classes, d dimensions.
h raw embedding, z = ||h|| its norm, W class centres, q degraded and k original view of a pair (unit vectors here).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, normalize, softplus

NORM_RANGE = (1e-3, 100.0)  # norms are clipped to it before statistics and indicator
SIGMA_FLOOR = 1e-3
SHORTEST = 1e-12  # a vector is divided by its norm or by this, as torch.nn.functional.normalize does
ANGLE_MARGIN = 1e-3  # modified angles stay in [1e-3, pi - 1e-3] radians


# --- quality: eqs. 1-4 -------------------------------------------------------------------------------------------


def clip_norms(norms: Tensor, limits: tuple[float, float] = NORM_RANGE) -> Tensor:
    """Norms, or other quality scores, clipped to `limits`, without gradient."""
    return norms.detach().clamp(*limits)


def quality_indicator(
    norms: Tensor,
    mean: Tensor,
    std: Tensor,
    c: float,
    *,
    floor: bool = True,
    limits: tuple[float, float] = NORM_RANGE,
) -> Tensor:
    """Eq. 1: zhat = clip((z - mu) c / sigma, -1, 1), one number per row, without gradient.

    Args:
        norms: (N,) norms z of the raw embeddings, or scores of another source of quality.
        mean: () running mean mu of such numbers.
        std: () their running standard deviation sigma.
        c: slope.
        floor: True divides by max(sigma, 1e-3), False by sigma + 1e-3 (the authors' code).
        limits: (low, high) that the numbers are clipped to first.

    Returns:
        zhat (N,) in [-1, 1].
    """
    sigma = std.clamp_min(SIGMA_FLOOR) if floor else std + SIGMA_FLOOR
    return ((clip_norms(norms, limits) - mean) * c / sigma).clamp(-1.0, 1.0)


def unit_scale(zhat: Tensor) -> Tensor:
    """u = (zhat + 1) / 2 in [0, 1], the scale that the threshold b lives on (section IV-D)."""
    return (zhat + 1.0) / 2.0


def pair_indicator(zhat_low: Tensor, zhat_high: Tensor) -> Tensor:
    """Eq. 2: a pair is as good as its worse view, zhat_p = min(zhat_q, zhat_k). Shapes (P,)."""
    return torch.minimum(zhat_low, zhat_high)


def classification_gate(u: Tensor, b: float | Tensor) -> Tensor:
    """Eq. 3: True where a view takes part in the classification, u > b; b = 0 lets every view take part. (N,) bool.

    A b that is a tensor () is a quantile: 0 is no exception then, and nothing waits for its device.
    """
    return u > b if isinstance(b, Tensor) or b > 0 else torch.ones_like(u, dtype=torch.bool)


def contrastive_gate(u_pair: Tensor, b: float | Tensor) -> Tensor:
    """Eq. 4: True where a pair takes part in the contrast, u_p <= b. (P,) bool."""
    return u_pair <= b


def soft_gate(u: Tensor, b: float | Tensor, s: float) -> Tensor:
    """Eq. 3 in the authors' code: a factor on the logits of each row, sigmoid(2 s (u - b)); 1 when b = 0.

    (N,), without gradient.
    """
    soft = isinstance(b, Tensor) or b > 0
    return torch.sigmoid(2.0 * s * (u.detach() - b)) if soft else torch.ones_like(u)


# --- classification: eqs. 6-12 -----------------------------------------------------------------------------------


def angle(cosine: Tensor) -> Tensor:
    """theta = arccos(cosine) in radians; the cosine is clamped by one rounding unit so that its gradient is finite."""
    edge = 1.0 - torch.finfo(cosine.dtype).eps
    return torch.arccos(cosine.clamp(-edge, edge))


def _shifted_cosine(cosine: Tensor, shift: Tensor | float) -> Tensor:
    return torch.cos((angle(cosine) + shift).clamp(ANGLE_MARGIN, math.pi - ANGLE_MARGIN))


def shifted_cosine_with_slope(cosine: Tensor, shift: Tensor | float) -> tuple[Tensor, Tensor]:
    """cos(theta + shift), as `adaface_target` and `arcface_target` have it, and its derivative by the cosine, which is
    eq. 12: sin(theta + shift) / sin(theta), and 0 where either angle is clamped. (N,) each, no gradient.

    Args:
        cosine: (N,) cos(theta).
        shift: radians, (N,) or one for all; AdaFace's is -m zhat.
    """
    cosine = cosine.detach()
    edge = 1.0 - torch.finfo(cosine.dtype).eps
    inner = cosine.clamp(-edge, edge)
    moved = torch.arccos(inner) + shift
    bent = moved.clamp(ANGLE_MARGIN, math.pi - ANGLE_MARGIN)
    free = (moved == bent) & (cosine == inner)
    return torch.cos(bent), torch.sin(moved) * (1.0 - inner * inner).rsqrt() * free


def adaface_target(cosine: Tensor, zhat: Tensor, m: float) -> Tensor:
    """Eqs. 6-10: f = cos(theta_y - m zhat) - (m zhat + m), the target's cosine after the adaptive margin.

    Args:
        cosine: (N,) cos(theta_y), to the own class centre.
        zhat: (N,) in [-1, 1]; no gradient reaches it.
        m: margin.

    Returns:
        (N,); the gradient reaches `cosine`.
    """
    zhat = zhat.detach()
    return _shifted_cosine(cosine, -m * zhat) - (m * zhat + m)


def arcface_target(cosine: Tensor, m: Tensor | float) -> Tensor:
    """cos(theta_y + m), m in radians (Deng et al., ArcFace, eq. 3). (N,)"""
    return _shifted_cosine(cosine, m)


def cosface_target(cosine: Tensor, m: float) -> Tensor:
    """cos(theta_y) - m (Wang et al., CosFace, eq. 4). (N,)"""
    return cosine - m


def gradient_scale(probability: Tensor, cosine: Tensor, zhat: Tensor, m: float) -> Tensor:
    """Eqs. 11-12: g = (P_y - 1) df/dcos for AdaFace, with df/dcos = sin(theta - m zhat) / sin(theta). (N,)

    A closed form for the plot of Fig. 2 (`experiments/figures/gradient.py`); training takes autograd's derivative.

    Args:
        probability: (N,) P_y of the own class.
        cosine: (N,) cos(theta_y).
        zhat: (N,) in [-1, 1].
        m: margin.
    """
    theta = angle(cosine)
    return (probability - 1.0) * torch.sin(theta - m * zhat) / torch.sin(theta)


def cosines(unit: Tensor, centres: Tensor, *, half: bool = False) -> Tensor:
    """cos(theta) (N, n) of unit vectors (N, d) to raw class centres (n, d); half: products in float16."""
    with torch.autocast(unit.device.type, enabled=False):
        centres = normalize(centres)
        return linear(unit.half(), centres.half()).float() if half else linear(unit, centres)


class _WithTarget(torch.autograd.Function):
    """One matrix forward and one backward; nothing about `column` is read of its device."""

    @staticmethod
    def forward(ctx, cosine: Tensor, column: Tensor, target: Tensor, s: Tensor | float) -> Tensor:
        ctx.s = s.unsqueeze(1) if isinstance(s, Tensor) else s
        logits = cosine * ctx.s
        here, at = (column >= 0).unsqueeze(1), column.clamp_min(0).unsqueeze(1)
        ctx.save_for_backward(here, at)
        if cosine.shape[1]:
            logits.scatter_(1, at, torch.where(here, target.unsqueeze(1) * ctx.s, logits.gather(1, at)))
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        here, at = ctx.saved_tensors
        of_cosine = gradient * ctx.s
        if not gradient.shape[1]:
            return of_cosine, None, gradient.new_zeros(len(gradient)), None
        own = of_cosine.gather(1, at)
        return of_cosine.scatter_(1, at, own.masked_fill(here, 0.0)), None, own.where(here, 0.0).squeeze(1), None


def with_target(cosine: Tensor, column: Tensor, target: Tensor, s: float | Tensor) -> Tensor:
    """Logits s * cosine with each row's own class after the margin.

    Args:
        cosine: (N, n).
        column: (N,) index of each row's own class; -1 leaves the row.
        target: (N,) what stands at `column` in the place of the cosine.
        s: scale of all rows, or of each, (N,), without gradient.

    Returns:
        (N, n); gradients reach `cosine` and `target`, once: they have no second derivative.
    """
    return _WithTarget.apply(cosine, column, target, s)


class _LogSumExp(torch.autograd.Function):
    """Row-wise log-sum-exp and target logit whose gradients come in one matrix, not in one for each."""

    @staticmethod
    def forward(ctx, logits: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        highest = logits.amax(1, keepdim=True) if logits.shape[1] else logits.new_full((len(logits), 1), -math.inf)
        highest = highest.nan_to_num(nan=math.nan, posinf=math.inf, neginf=0.0)
        weights = (logits - highest).exp_()
        total = weights.sum(1, keepdim=True)
        here, at = column >= 0, column.clamp_min(0).unsqueeze(1)
        target = logits.gather(1, at).squeeze(1).where(here, 0.0) if logits.shape[1] else logits.new_zeros(len(logits))
        ctx.save_for_backward(weights, total, here, at)
        return (highest + total.log()).squeeze(1), target

    @staticmethod
    def backward(ctx, grad_logsumexp: Tensor, grad_target: Tensor) -> tuple[Tensor, None]:
        weights, total, here, at = ctx.saved_tensors
        gradient = weights * (grad_logsumexp.unsqueeze(1) / total).where(total > 0, 0.0)
        if gradient.shape[1]:
            gradient.scatter_add_(1, at, grad_target.where(here, 0.0).unsqueeze(1))
        return gradient, None


def logsumexp_and_target(logits: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """log sum exp over each row of (N, n) and its entry at `column` (N,), 0 where column is -1: (N,), (N,).

    A row without finite entries gives -inf and no gradient.
    """
    return _LogSumExp.apply(logits, column)


def logsumexp(logits: Tensor) -> Tensor:
    """log sum exp over each row of (N, n) -> (N,). A row without finite entries gives -inf and no gradient."""
    return logsumexp_and_target(logits, torch.full((len(logits),), -1, device=logits.device))[0]


# --- contrast: eqs. 13-14 and section III-C ----------------------------------------------------------------------


def refresh(features: Tensor, old_proxies: Tensor, new_proxies: Tensor) -> Tensor:
    """Section III-C: f_now = f_old + (||f_old|| / ||W_old||) (W_now[y] - W_old), as the paper prints it.

    A closed form that the tests compare with what runs: `FeatureQueue.refreshed`, by `split_refresh`.

    Args:
        features: (Q, d) as they were enqueued.
        old_proxies: (Q, d) centre of each feature's class when it was enqueued.
        new_proxies: (Q, d) the same centre now.
    """
    scale = features.norm(dim=1, keepdim=True) / old_proxies.norm(dim=1, keepdim=True)
    return features + scale * (new_proxies - old_proxies)


def split_refresh(features: Tensor, old_proxies: Tensor) -> tuple[Tensor, Tensor]:
    """(r, a) with refresh(f, W_old, W_now) = r + a W_now: r (Q, d), a (Q,), fixed when f is enqueued."""
    a = features.norm(dim=1) / old_proxies.norm(dim=1)
    return features - a.unsqueeze(1) * old_proxies, a


def info_nce(positive: Tensor, negatives: Tensor, *, positive_in_denominator: bool = True) -> Tensor:
    """Eqs. 13-14 from two numbers per pair: the loss (P,) that `loss/contrast.py` takes the mean of.

    Args:
        positive: (P,) s cos(q, k).
        negatives: (P,) log-sum-exp of s cos(q, f) over the negatives f.
        positive_in_denominator: True gives log(1 + e^(negatives - positive)) >= 0, as the authors' code; False
            negatives - positive, as eq. 14 is printed.

    Returns:
        (P,); a pair without any negative (-inf) has loss 0 and no gradient.
    """
    margin = negatives - positive
    if positive_in_denominator:
        return softplus(margin)
    return margin.masked_fill(negatives == -math.inf, 0.0)


def contrastive_loss(
    query: Tensor, key: Tensor, negatives: Tensor, mask: Tensor, s: float, *, positive_in_denominator: bool = True
) -> Tensor:
    """Eqs. 13-14 in one piece, as printed: -log(e^(s cos(q, k)) / sum over the negatives f of e^(s cos(q, f))); by
    default e^(s cos(q, k)) stands in the sum, too.

    A closed form over whole matrices that the tests compare with loops. What runs in training is `contrast` in
    `loss/contrast.py`: the queue a block at a time, sharded over the ranks.

    Args:
        query: (P, d) embeddings q of the degraded views, raw or unit.
        key: (P, d) embeddings k of the original views; no gradient reaches them.
        negatives: (Q, d) f; no gradient reaches them.
        mask: (P, Q) bool, True where a negative competes (another identity, alive).
        s: scale.
        positive_in_denominator: as `info_nce` has it.

    Returns:
        (P,) the loss of each pair.
    """
    query, key, negatives = normalize(query), normalize(key.detach()), normalize(negatives.detach())
    logits = (query @ negatives.T * s).masked_fill(~mask, -math.inf)
    positive = (query * key).sum(1) * s
    return info_nce(positive, logsumexp(logits), positive_in_denominator=positive_in_denominator)

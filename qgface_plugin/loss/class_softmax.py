"""The classification's log-sum-exp over this rank's class centres (eqs. 6-10), a chunk of classes at a time.

No normalised copy of the centres, no matrix of ones, a margin on the own class only. For the backward pass one number
per row and class is kept at most, and beyond `kept` of them none: those chunks are computed again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .functional import SHORTEST
from .margin import Rule
from .partial_softmax import PartialSoftmax

CHUNK = 2**18  # logits at a time on a CPU: they stay in its cache
CHUNK_CUDA = 2**24  # on a GPU: each chunk keeps all of it busy
ALIGNED = 64  # matrix products are slower on other widths
KEPT = 2**30  # logits that are kept for the backward pass, 4 GiB in float32


def classes_at_a_time(rows: int, cuda: bool = False) -> int:
    """Classes in a chunk of so many rows: a multiple of ALIGNED, at least 256."""
    return max(256, (CHUNK_CUDA if cuda else CHUNK) // max(1, rows) // ALIGNED * ALIGNED)


class _ClassLogSumExp(torch.autograd.Function):
    """Kept for each chunk c of classes: 1 / ||W|| (1, c), a shift (R, 1), and weights e^(logit - shift) (R, c) while
    there is room for them. Where a cosine stands at the bound, so that no gradient goes through, its weight is
    negative."""

    @staticmethod
    def forward(ctx, unit, weight, own, rule, index, half, kept, owned):
        scale, bound = rule.scale.unsqueeze(1), rule.bound
        ctx.index, ctx.scale, ctx.bound, ctx.half = index, scale, bound, half
        trained = any(ctx.needs_input_grad[:2])
        target, ctx.slope = _target(unit, weight, own, rule, index, trained, owned)
        ctx.size = classes_at_a_time(len(unit), unit.is_cuda)
        ctx.inverse, ctx.shifts, ctx.weights, parts = [], [], [], []
        room = kept if trained else 0
        query = unit * scale
        count = len(weight if index is None else index)
        ctx.inside = owned and count <= ctx.size  # each row's class is in the one chunk that there is
        for start in range(0, count, ctx.size):
            centres = _centres(weight, index, start, ctx.size)
            inverse = torch.linalg.vector_norm(centres, dim=1).clamp_min_(SHORTEST).reciprocal_().unsqueeze(0)
            logits, flat = _logits(query, centres, inverse, scale, bound, half)
            _put(logits, own - start if start else own, target, ctx.inside)
            shift = logits.amax(1, keepdim=True)
            weights = logits.sub_(shift).exp_()
            parts.append(weights.sum(1, keepdim=True).log_().add_(shift))
            room -= weights.numel()
            ctx.inverse.append(inverse)
            ctx.shifts.append(shift)
            ctx.weights.append(_marked(weights, flat) if room >= 0 else None)
            del centres, logits, weights, flat  # before the next chunk is made
        if len(parts) == 1:
            lse = parts[0].squeeze(1)
        else:
            lse = torch.cat(parts, 1).logsumexp(1) if parts else target.new_full((len(unit),), -math.inf)
        ctx.save_for_backward(unit, weight, own, target, lse)
        return lse, target

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_lse, grad_target):
        unit, weight, own, target, lse = ctx.saved_tensors
        index, factor = ctx.index, grad_lse.unsqueeze(1) * ctx.scale
        on_target = (grad_lse * (target - lse).exp() + grad_target) * ctx.slope
        query, narrow = unit * ctx.scale, unit.half() if ctx.half else unit
        grad_unit = torch.zeros_like(unit)
        grad_weight = torch.empty_like(weight) if index is None else torch.zeros_like(weight)
        for number, (inverse, shift) in enumerate(zip(ctx.inverse, ctx.shifts, strict=True)):
            start, stop = number * ctx.size, (number + 1) * ctx.size
            centres = _centres(weight, index, start, ctx.size)
            gradient, ctx.weights[number] = ctx.weights[number], None  # written over: a second pass computes it again
            if gradient is None:
                logits, flat = _logits(query, centres, inverse, ctx.scale, ctx.bound, ctx.half)
                gradient = _marked(logits.sub_(shift).exp_(), flat)
            if ctx.bound is not None:
                gradient.clamp_min_(0.0)
            gradient.mul_((shift - lse.unsqueeze(1)).exp_().mul_(factor))
            _put(gradient, own - start if start else own, on_target, ctx.inside)  # by the cosines, (R, c)
            if ctx.half:
                gradient = gradient.half()
                grad_unit.add_(gradient @ _half_units(centres, inverse))
                part = torch.mm(gradient.T, narrow).to(unit.dtype).mul_(inverse.T)
            else:
                grad_unit.addmm_(gradient.mul_(inverse), centres)
                part = torch.mm(gradient.T, unit, out=None if index is not None else grad_weight[start:stop])
            _project(part, centres, inverse)
            if index is not None:
                grad_weight.index_copy_(0, index[start:stop], part)
            elif ctx.half:
                grad_weight[start:stop] = part
            del centres, gradient, part  # before the next chunk is made
        return grad_unit, grad_weight, *[None] * 6


def _marked(weights: Tensor, flat: Tensor | None) -> Tensor:
    return weights if flat is None else torch.where(flat, -weights, weights)


def _target(unit, weight, own, rule: Rule, index, trained: bool, owned: bool) -> tuple[Tensor, Tensor]:
    """Each row's target logit and, if `trained`, its derivative by the cosine, (R,) both; 0 where the class is not
    here."""
    if len(weight if index is None else index) == 0:
        return unit.new_zeros(len(unit)), unit.new_zeros(len(unit))
    column, factor = own, rule.scale
    if not owned:
        column, factor = own.clamp_min(0), torch.where(own >= 0, rule.scale, 0.0)
    centre = torch.nn.functional.normalize(weight[column if index is None else index[column]])
    cosine = (unit * centre).sum(1)
    known = rule.with_slope(cosine) if rule.with_slope is not None and rule.bound is None else None
    if known is not None:
        return known[0] * factor, known[1] * factor
    with torch.set_grad_enabled(trained):
        cosine = cosine.requires_grad_(trained)
        target = rule.target(cosine if rule.bound is None else cosine.clamp(-rule.bound, rule.bound))
        slope = torch.autograd.grad(target.sum(), cosine)[0] if trained else torch.zeros_like(cosine)
    return target.detach() * factor, slope * factor


def _centres(weight: Tensor, index: Tensor | None, start: int, size: int) -> Tensor:
    """One chunk of raw centres (c, d): read where they lie, or gathered."""
    return weight[start : start + size] if index is None else weight.index_select(0, index[start : start + size])


def _logits(query, centres, inverse, scale, bound: float | None, half: bool) -> tuple[Tensor, Tensor | None]:
    """scale x cosine (R, c), and where the cosine was cut off at the bound."""
    if half:
        logits = (query.half() @ _half_units(centres, inverse).T).float()
    else:
        logits = (query @ centres.T).mul_(inverse)  # R c numbers in the place of a normalised copy's d c
    if bound is None:
        return logits, None
    limit = bound * scale
    flat = logits.abs() > limit
    return torch.clamp(logits, -limit, limit, out=logits), flat


def _half_units(centres: Tensor, inverse: Tensor) -> Tensor:
    """Unit centres (c, d) in float16, whose range raw ones could leave; written once, not in float32 first."""
    return torch.mul(centres, inverse.T, out=torch.empty_like(centres, dtype=torch.float16))


def _project(gradient: Tensor, centres: Tensor, inverse: Tensor) -> None:
    """Take off each centre's gradient (c, d), in place, what lies along the centre: its length has no effect."""
    along = (gradient * centres).sum(1, keepdim=True).mul_(inverse.T).mul_(inverse.T)
    gradient.addcmul_(centres, along, value=-1.0)


def _put(matrix: Tensor, column: Tensor, values: Tensor, inside: bool) -> None:
    """Write values (R,) at `column` (R,) of each row, where it is in the matrix (R, c), as with `inside` it always is;
    without asking the device."""
    if inside:
        matrix.scatter_(1, column.unsqueeze(1), values.unsqueeze(1))
        return
    here = (column >= 0) & (column < matrix.shape[1])
    column = column.clamp(0, matrix.shape[1] - 1).unsqueeze(1)
    matrix.scatter_(1, column, torch.where(here.unsqueeze(1), values.unsqueeze(1), matrix.gather(1, column)))


def class_logsumexp(
    unit: Tensor,
    weight: Tensor,
    own: Tensor,
    rule: Rule,
    *,
    index: Tensor | None = None,
    half: bool = False,
    kept: int | None = None,
    owned: bool = False,
) -> PartialSoftmax:
    """This rank's part of the classification's softmax, the logits being those of `margin.apply_rule`.

    Args:
        unit: (R, d) unit vectors.
        weight: (n, d) raw centres of this rank's classes.
        own: (R,) index of each row's class among the centres that compete, -1 where it is not among them.
        rule: the margin of these rows; one that leaves the other classes' cosines alone.
        index: (k,) ascending, the centres that compete; None for all.
        half: products in float16.
        kept: logits that may be kept for the backward pass, KEPT by default.
        owned: every row's class is among the centres here, as on one rank; saves operations.

    Returns:
        Log-sum-exp and target logit (R,) each; -inf and 0 without classes. Gradients reach `unit` and `weight`, once:
        they have no second derivative.
    """
    assert rule.others is None, "a head that changes others needs the matrix"
    kept = KEPT if kept is None else kept
    with torch.autocast(unit.device.type, enabled=False):
        return PartialSoftmax(*_ClassLogSumExp.apply(unit, weight, own, rule, index, half, kept, owned))

"""Norm of many gradients for torch before 2.6, which cannot be asked for it without clipping; torch's own from 2.6 on.

Remove this file once torch >= 2.6 is required, and import both names from `torch.nn.utils`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

__all__ = ["clip_grads_with_norm_", "get_total_norm"]


@torch.no_grad()
def _get_total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The 2-norm of all tensors, as if they were one vector.

    Args:
        tensors: of any shapes, on one device.

    Returns:
        A scalar on their device; 0 for no tensors. No gradient flows through it.
    """
    if not (found := list(tensors)):
        return torch.tensor(0.0)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found, 2.0)))


@torch.no_grad()
def _clip_grads_with_norm_(parameters: Iterable[nn.Parameter], max_norm: float, total_norm: Tensor) -> None:
    """Shorten gradients in place, all by one factor, so that their norm is `max_norm` at most.

    Args:
        parameters: those without gradient are left out.
        max_norm: the largest norm.
        total_norm: what `get_total_norm` gave for these gradients.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, (max_norm / (total_norm + 1e-6)).clamp(max=1.0))


get_total_norm: Callable[[Iterable[Tensor]], Tensor] = _get_total_norm
clip_grads_with_norm_: Callable[[Iterable[nn.Parameter], float, Tensor], None] = _clip_grads_with_norm_
if hasattr(nn.utils, "get_total_norm"):
    get_total_norm, clip_grads_with_norm_ = nn.utils.get_total_norm, nn.utils.clip_grads_with_norm_

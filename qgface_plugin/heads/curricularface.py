"""CurricularFace (Huang et al., "CurricularFace: Adaptive Curriculum Learning Loss", CVPR 2020), section 3.

The target is ArcFace's, T = cos(theta_y + m). A negative is hard when cos(theta_j) > T; its cosine becomes
cos(theta_j) (t + cos(theta_j)). t starts at 0 and follows the mean cosine to the own class, so hard negatives weigh
little at first and much later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import functional as F
from .head import MarginHead, Rows, margin_head

if TYPE_CHECKING:
    from ..config.method import QGFaceConfig


def reweighted(cosine: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """N(t, cos theta_j): hard negatives re-weighted. cosine (R, n); target (R,) after the margin; t ()."""
    return torch.where(cosine > target.unsqueeze(1), cosine * (t + cosine), cosine)


@margin_head("curricularface")
class CurricularFace(MarginHead):
    """t <- (1 - a) t + a mean(cos theta_y) over the rows that are classified, before it is used; a is
    `config.curricular_momentum`. It is the same on every rank and is saved."""

    wants_own_cosine = changes_others = True

    def __init__(self, config: QGFaceConfig) -> None:
        super().__init__(config)
        self.register_buffer("t", torch.zeros(()))

    @torch.no_grad()
    def observe(self, rows: Rows) -> None:
        if len(rows.own_cosine):
            self.t.lerp_(rows.own_cosine.mean().to(self.t.dtype), self.config.curricular_momentum)

    def target(self, cosine: Tensor, rows: Rows) -> Tensor:
        return F.arcface_target(cosine, self.config.m)

    def others(self, cosine: Tensor, rows: Rows) -> Tensor:
        target = F.arcface_target(rows.own_cosine, self.config.m)
        return reweighted(cosine, target, self.t.clone())  # autograd keeps it until the backward pass

"""ArcFace (Deng et al., CVPR 2019), eq. 3: cos(theta_y + m)."""

from __future__ import annotations

from torch import Tensor

from .. import functional as F
from .head import MarginHead, Rows, margin_head


@margin_head("arcface")
class ArcFace(MarginHead):
    """An additive angle, the same for every row; m in radians."""

    def target(self, cosine: Tensor, rows: Rows) -> Tensor:
        return F.arcface_target(cosine, self.config.m)

"""CosFace (Wang et al., CVPR 2018), eq. 4: cos(theta_y) - m."""

from __future__ import annotations

from torch import Tensor

from .. import functional as F
from .head import MarginHead, Rows, margin_head


@margin_head("cosface")
class CosFace(MarginHead):
    """An additive cosine, the same for every row."""

    def target(self, cosine: Tensor, rows: Rows) -> Tensor:
        return F.cosface_target(cosine, self.config.m)

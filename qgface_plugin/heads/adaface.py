"""AdaFace (Kim et al., CVPR 2022), eqs. 6-10 of QGFace: cos(theta_y - m zhat) - (m zhat + m)."""

from __future__ import annotations

from torch import Tensor

from .. import functional as F
from .head import MarginHead, Rows, margin_head


@margin_head("adaface")
class AdaFace(MarginHead):
    """The margin grows with the quality of the row."""

    def target(self, cosine: Tensor, rows: Rows) -> Tensor:
        return F.adaface_target(cosine, rows.zhat, self.config.m)

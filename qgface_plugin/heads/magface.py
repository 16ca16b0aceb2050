"""MagFace (Meng et al., "MagFace: A Universal Representation for Face Recognition and Quality Assessment", CVPR 2021).

The margin grows with the norm a of the raw embedding and a regulariser rewards large norms, so that norms come to
tell quality: the target is cos(theta_y + m(a)), and lambda_g g(a) is added to each row's loss. Section 3:
m(a) is linear from m_low at a_low to m_high at a_high, g(a) = 1 / a + a / a_high^2, a clipped to [a_low, a_high].
"""

from __future__ import annotations

from torch import Tensor

from .. import functional as F
from .head import MarginHead, Rows, margin_head


def magnitude_margin(norms: Tensor, norm_range: tuple[float, float], margins: tuple[float, float]) -> Tensor:
    """m(a) in radians for norms (R,) within `norm_range`."""
    (a_low, a_high), (m_low, m_high) = norm_range, margins
    return (norms - a_low) * ((m_high - m_low) / (a_high - a_low)) + m_low


def magnitude_regulariser(norms: Tensor, a_high: float) -> Tensor:
    """g(a) = 1 / a + a / a_high^2, (R,); it falls up to a = a_high."""
    return 1.0 / norms + norms / a_high**2


@margin_head("magface")
class MagFace(MarginHead):
    """Gradients reach the norms through m(a) and g(a). `config.m` is not used; see `config.magface_*`."""

    wants_norms = True

    def target(self, cosine: Tensor, rows: Rows) -> Tensor:
        config = self.config
        return F.arcface_target(cosine, magnitude_margin(self._clipped(rows), config.magface_norms, config.magface_m))

    def added_loss(self, rows: Rows) -> Tensor:
        g = magnitude_regulariser(self._clipped(rows), self.config.magface_norms[1])
        return self.config.magface_weight * g

    def _clipped(self, rows: Rows) -> Tensor:
        return rows.norms.clamp(*self.config.magface_norms)

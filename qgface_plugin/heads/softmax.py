"""No margin: the normalised softmax (Wang et al., "NormFace", ACM MM 2017): the target is cos(theta_y) itself."""

from __future__ import annotations

from .head import MarginHead, margin_head


@margin_head("softmax")
class Softmax(MarginHead):
    """The cosines as they are."""

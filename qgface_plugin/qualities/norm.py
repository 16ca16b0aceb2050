"""The paper's source: the norm of the raw embedding (section III-A, after Kim et al., "AdaFace", CVPR 2022)."""

from __future__ import annotations

from torch import Tensor

from ..functional import NORM_RANGE
from .source import QualitySource, Rows, quality_source


def norm(rows: Rows) -> Tensor:
    """||h|| (N,)."""
    return rows.raw.norm(dim=1)


NORM = quality_source(QualitySource("norm", NORM_RANGE, of_rows=norm))

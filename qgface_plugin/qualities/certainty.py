"""How sure the classification is of a row's own class: the certainty ratio of CR-FIQA.

Boutros, Fang, Klemt, Fu, Damer, "CR-FIQA: Face Image Quality Assessment by Learning Sample Relative Classifiability",
CVPR 2023, section 3. There a head learns to predict it; here it is the quality of a training row itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..functional import cosines
from ..utils import distributed
from .source import QualitySource, Rows, quality_source

BLOCK = 8192  # class centres that are compared at a time
EPSILON = 1e-3  # keeps the ratio finite where even the nearest other centre is opposite


@torch.no_grad()
def certainty(rows: Rows) -> Tensor:
    """cos(h, W_y) / (1 + eps + max over j != y of cos(h, W_j)), (N,).

    Over the centres that compete in this step, of all ranks. Costs a product of all rows with these centres without
    gradient, a block at a time, and one all-reduce of (2, N) maxima.
    """
    own = rows.unit.new_full((len(rows.unit),), -math.inf)
    nearest = own.clone()
    for start in range(0, len(rows.centres if rows.index is None else rows.index), BLOCK):
        part = slice(start, start + BLOCK)
        centres = rows.centres[part] if rows.index is None else rows.centres.index_select(0, rows.index[part])
        cosine = cosines(rows.unit, centres)
        place = rows.position - start
        here = ((place >= 0) & (place < cosine.shape[1])).nonzero().squeeze(1)
        own[here] = cosine[here, place[here]]
        cosine[here, place[here]] = -math.inf
        nearest = torch.maximum(nearest, cosine.amax(1))
    own, nearest = distributed.maximum(torch.stack([own, nearest])).unbind(0)
    return own / (nearest.clamp_min(-1.0) + 1.0 + EPSILON)  # one class alone has no other: as one that is opposite


CERTAINTY = quality_source(QualitySource("certainty", (-2.0, 2.0), of_rows=certainty))

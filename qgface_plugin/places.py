"""Where masks are true, as `nonzero` gives it, for several masks with one read from the device."""

from __future__ import annotations

import torch
from torch import Tensor


def places(*masks: Tensor) -> list[Tensor]:
    """Ascending places where each mask (N,) is True; waits for the device once, and not at all without masks."""
    if not masks:
        return []
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [(~mask).byte().argsort(stable=True)[:count] for mask, count in zip(masks, counts, strict=True)]

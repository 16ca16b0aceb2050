"""What the loader knows: minus the strength with which it has degraded a view; see `data/strength.py`.

The originals of a training set have 0, whatever they look like: this source says nothing about blurred originals.
"""

from __future__ import annotations

from torch import Tensor

from .source import QualitySource, quality_source


def degradation(images: Tensor, strength: Tensor | None) -> Tensor:
    """-strength (2B,), in octaves. Raises ValueError for batches that do not say how they were degraded."""
    if strength is None:
        raise ValueError("quality = 'degradation' needs batches that carry the strength of each view's degradation")
    return -strength


DEGRADATION = quality_source(QualitySource("degradation", (-16.0, 0.0), of_images=degradation))

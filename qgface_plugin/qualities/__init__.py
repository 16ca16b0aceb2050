"""Sources of quality by the name that `config.qgface.quality` gives them; one file each.

An own source is a `QualitySource` in one file that the recipe imports, made known by `quality_source`.
"""

from __future__ import annotations

from torch import Tensor

from ..utils.registry import QUALITY_SOURCES
from . import certainty, degradation, norm, sharpness  # noqa: F401
from .source import QualitySource, Rows, quality_source

QUALITY_SOURCES.freeze()

__all__ = ["QualitySource", "Rows", "of_images", "quality_source"]


def of_images(name: str, images: Tensor, strength: Tensor | None) -> Tensor | None:
    """What a host gives to the criterion as `quality`: (2B,), or None where the source needs nothing of the host.

    images: float (2B, 3, h, w) in [-1, 1], originals first; strength (2B,) of the batch's degradation, or None.
    """
    measure = QUALITY_SOURCES[name].of_images
    return None if measure is None else measure(images, strength)

"""How strongly a view was degraded: one number from what was drawn for it, in octaves of lost resolution.

Only what takes detail away or off the face counts; the image itself is not looked at. What the parts are worth beside
each other is our choice, not a published one.
"""

from __future__ import annotations

import numpy as np

from .draws import SIDE, Plan

ROTATION = 90.0  # degrees that count as one octave
DARKEST = 1.0 / 16.0  # smaller factors of brightness, contrast, saturation count as this one


def strength(plans: np.ndarray, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Strength of B degraded views, float32 (B,), at least 0; 0 where no step was drawn, mirroring aside.

    plans: float32 (B, fields of Plan) of images of `shape` (h, w). The sum of
        rescaling   log2(side / small side), geometric mean of both sides;
        JPEG        log2(1 + f), f the IJG's factor of the quantisation steps: 50 / q below quality q = 50, else
                    2 - q / 50 (1 octave at quality 50, 0.58 at 75);
        crop        log2 of side / crop's side, geometric mean of both sides;
        photometric |log2 factor| of each of the three, halved;
        rotation    |degrees| / 90.
    """
    plan = Plan(*np.asarray(plans, np.float64).T)
    side = np.log2(np.asarray(shape, np.float64)).mean()
    rescaled = side - (np.log2(plan.small_height) + np.log2(plan.small_width)) / 2
    cropped = side - (np.log2(plan.crop_height) + np.log2(plan.crop_width)) / 2
    quality = np.maximum(plan.jpeg_quality, 1)
    steps = np.where(quality < 50, 50 / quality, 2 - quality / 50)
    compressed = np.where(plan.jpeg_quality > 0, np.log2(1 + steps), 0)
    factors = np.stack([plan.first_factor, plan.second_factor, plan.third_factor])
    changed = np.abs(np.log2(np.maximum(factors, DARKEST))).sum(0) / 2
    return (rescaled + cropped + compressed + changed + np.abs(plan.degrees) / ROTATION).astype(np.float32)

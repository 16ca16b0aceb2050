"""The degraded pair with Pillow and tensors step by step, as training code in the style of torchvision does it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import torch

from qgface_plugin.config.degradation import FILTERS, DegradationPolicy
from qgface_plugin.data.degradation.params import Plan


def pillow_pair() -> Callable[[memoryview, Plan, DegradationPolicy], tuple[torch.Tensor, torch.Tensor]] | None:
    """What makes both views, float32 (3, h, w) in [-1, 1], of an encoded image; None where Pillow is not installed."""
    try:
        from PIL import Image, ImageEnhance
    except ImportError:
        return None
    resampling = Image.Resampling
    filters = dict(
        zip(
            FILTERS,
            (resampling.NEAREST, resampling.BILINEAR, resampling.BOX, resampling.BICUBIC, resampling.LANCZOS),
            strict=True,
        )
    )
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

    def mirrored(image: Any, flip: float) -> Any:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image

    def pair(encoded: memoryview, plan: Plan, policy: DegradationPolicy) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.open(BytesIO(encoded)).convert("RGB")
        low, full = image, image.size
        top, left, height, width = (int(number) for number in plan[1:5])
        box = (left, top, left + width, top + height)
        if policy.crop_keeps_place:
            low = Image.new("RGB", full)
            low.paste(image.crop(box), box)
        low = low.resize((int(plan.small_width), int(plan.small_height)), filters[FILTERS[int(plan.down)]])
        if plan.jpeg_quality:
            file = BytesIO()
            low.save(file, "JPEG", quality=int(plan.jpeg_quality))
            low = Image.open(file).convert("RGB")
        low = low.resize(full, filters[FILTERS[int(plan.up)]])
        if not policy.crop_keeps_place and (width, height) != full:
            low = low.crop(box).resize(full, resampling.BILINEAR)
        for kind, factor in (plan[10:12], plan[12:14], plan[14:16]):
            if factor != 1:
                low = enhancers[int(kind)](low).enhance(factor)
        if plan.degrees:
            low = low.rotate(plan.degrees, resampling.BILINEAR)
        return _tensor(mirrored(image, plan.flip_high)), _tensor(mirrored(low, plan.flip_low))

    return pair


def _tensor(image: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255).sub_(0.5).div_(0.5)

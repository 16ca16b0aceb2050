"""The degraded pair with Pillow and tensors step by step, as training code in the style of torchvision does it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import torch

from ..config.degradation import FILTERS, DegradationPolicy
from ..data.degradation.params import ViewParams


def pillow_pair() -> Callable[[memoryview, ViewParams, DegradationPolicy], tuple[torch.Tensor, torch.Tensor]] | None:
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

    def pair(encoded: memoryview, view: ViewParams, policy: DegradationPolicy) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.open(BytesIO(encoded)).convert("RGB")
        low, full = image, image.size
        top, left, height, width = (int(number) for number in view.box)
        box = (left, top, left + width, top + height)
        if policy.crop_keeps_place:
            low = Image.new("RGB", full)
            low.paste(image.crop(box), box)
        low = low.resize((int(view.small_width), int(view.small_height)), filters[FILTERS[int(view.down)]])
        if view.jpeg_quality:
            file = BytesIO()
            low.save(file, "JPEG", quality=int(view.jpeg_quality))
            low = Image.open(file).convert("RGB")
        low = low.resize(full, filters[FILTERS[int(view.up)]])
        if not policy.crop_keeps_place and (width, height) != full:
            low = low.crop(box).resize(full, resampling.BILINEAR)
        for kind, factor in zip(view.order, view.factors, strict=True):
            if factor != 1:
                low = enhancers[int(kind)](low).enhance(factor)
        if view.degrees:
            low = low.rotate(view.degrees, resampling.BILINEAR)
        return _tensor(mirrored(image, view.flip_high)), _tensor(mirrored(low, view.flip_low))

    return pair


def _tensor(image: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255).sub_(0.5).div_(0.5)

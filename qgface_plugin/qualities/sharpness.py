"""How much fine detail the image has that the encoder sees: the mean logarithm of its Laplacian, at half size.

After the variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000).
That one is ruled by the few strongest edges, and enlarging a small face by nearest neighbours, or JPEG, makes such
edges at its blocks. The mean of the logarithm tells instead in how much of the image there is detail at all; half
size leaves out noise, and the blur that alignment itself brings.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from .source import QualitySource, quality_source

GREY = (0.299, 0.587, 0.114)  # ITU-R 601
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
LEVEL = 1.0 / 127.5  # one grey level: less than that is no detail


@torch.no_grad()
def sharpness(images: Tensor, strength: Tensor | None = None) -> Tensor:
    """mean of log(|Laplacian| + one grey level) over the half-size grey image, (N,), natural logarithm.

    images: float (N, 3, h, w) RGB in [-1, 1], h and w at least 6. `strength` is not looked at.
    """
    grey = (images.float() * images.new_tensor(GREY, dtype=torch.float32).view(1, 3, 1, 1)).sum(1, keepdim=True)
    kernel = grey.new_tensor(LAPLACIAN).view(1, 1, 3, 3)
    return (conv2d(avg_pool2d(grey, 2), kernel).abs() + LEVEL).log().mean((1, 2, 3))


SHARPNESS = quality_source(QualitySource("sharpness", (-6.0, 3.0), of_images=sharpness))

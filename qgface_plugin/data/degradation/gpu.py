"""Degraded views of a whole batch in one pass, on the device that the images are on.

The same steps as `cpu.py`, by the same drawn parameters, with every intermediate rounded to 0..255 as uint8 does it;
nothing depends on the data in a way that the host would have to wait for. B images, (B, 3, h, w), h = w = 112.

Resizing is two products of matrices: a filter is linear, so it is known by what OpenCV makes of the unit vectors. An
image X (h, w) becomes A X B^T with A (h', h) and B (w', w), so the images of a batch may have different filters and
sizes, with OpenCV's own weights.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...config.degradation import FILTERS, DegradationPolicy
from ..pair_batch import PairBatch
from .cpu import FLAGS
from .gpu_camera import CameraBatch
from .gpu_jpeg import JpegBatch
from .params import SIDE, ViewParams

GREY = (0.299, 0.587, 0.114)  # ITU-R 601


def both_views(batch: PairBatch, policy: DegradationPolicy | None) -> PairBatch:
    """The batch with both its views where it came with drawn parameters; others are returned as they are.

    Args:
        batch: on the device where the views are to be made.
        policy: what the parameters were drawn from.
    """
    if batch.params is None:
        return batch
    assert policy is not None, "parameters are drawn from a policy"
    size, (height, width) = len(batch), batch.high.shape[2:]
    views = torch.empty((2 * size, height, width, 3), dtype=torch.uint8, device=batch.high.device).permute(0, 3, 1, 2)
    params = ViewParams.unpack(batch.params)
    views[:size] = _where(params.flip_high, batch.high.flip(3), batch.high)
    views[size:] = degrade_batch(batch.high, params, policy)
    high, low = views[:size], views[size:]
    return PairBatch(high, low, batch.labels, batch.skipped, strength=batch.strength, surplus=batch.surplus)


def degrade_batch(images: Tensor, params: ViewParams, policy: DegradationPolicy) -> Tensor:
    """The degraded views of a batch.

    Args:
        images: uint8 (B, 3, 112, 112) RGB.
        params: tensors on the device of the images, drawn with the same policy.
        policy: what was drawn from.

    Returns:
        whole numbers 0 to 255 in float32, (B, 3, 112, 112).
    """
    assert images.shape[1:] == (3, SIDE, SIDE), images.shape
    tables = tables_of(policy, images.device)
    x = tables.camera.before_shrinking(images.float().contiguous(), params)
    box = (params.crop_top, params.crop_height), (params.crop_left, params.crop_width)
    if policy.crop_keeps_place:
        rows, columns = (_inside(*edge) for edge in box)
        x = x * (rows[:, None, :, None] * columns[:, None, None, :])
    x = tables.rescale(x, params)
    if not policy.crop_keeps_place and policy.crop_p:
        rows, columns = (_enlarged(*edge)[:, None] for edge in box)
        x = _levels(rows @ x @ columns.mT)
    if policy.photometric_p:
        for kind, factor in zip(params.order.unbind(1), params.factors.unbind(1), strict=True):
            x = _adjust(x, kind, factor)
    if policy.rotation_p:
        x = _rotate(x, params.degrees)
    return _where(params.flip_low, x.flip(3), x)


class Tables:
    """Matrices of one policy on one device: resizing by each filter, and the JPEG between down and up.

    Attributes:
        smallest, largest: sides in pixels that the policy may shrink to.
        down, up: float32 (filters, sizes, padded, 112) and (filters, sizes, 112, padded), padded a multiple of 16.
        jpeg: None where the policy has no JPEG.
        camera: the steps before shrinking, and the noise after it.
    """

    def __init__(self, policy: DegradationPolicy, device: torch.device) -> None:
        low, high = (max(1, int(SIDE * ratio + 0.5)) for ratio in policy.rescale_ratio)
        self.largest = SIDE if policy.rescale_p < 1 else high  # an image that is not rescaled has its own size
        self.smallest = low if policy.rescale_p > 0 else SIDE
        padded = -(-self.largest // 16) * 16
        sizes = range(self.smallest, self.largest + 1)
        down = shrink_matrices(SIDE, sizes, padded, policy.rescale_antialias)
        self.down = torch.from_numpy(down).to(device)  # (filters, sizes, padded, SIDE)
        self.up = torch.from_numpy(enlarge_matrices(SIDE, sizes, padded)).to(device)
        self.jpeg = JpegBatch(policy.jpeg_quality, padded, device) if policy.jpeg_p else None
        self.camera = CameraBatch(policy, device)

    def rescale(self, x: Tensor, params: ViewParams) -> Tensor:
        """Down, noise, JPEG, up: (B, 3, 112, 112) -> the same shape, whole numbers 0 to 255."""
        sides = params.small_height.long()  # the images are square
        at = sides - self.smallest
        down, up = self.down[params.down.long(), at][:, None], self.up[params.up.long(), at][:, None]
        x = _levels(down @ x @ down.mT)  # (B, 3, padded, padded)
        x = self.camera.noise(x, params, sides)
        if self.jpeg is not None:
            x = _where(params.jpeg_quality, self.jpeg(x, sides), x)
        return _levels(up @ x @ up.mT)


@lru_cache(maxsize=4)
def tables_of(policy: DegradationPolicy, device: torch.device) -> Tables:
    """The tables, made once for a policy and device."""
    return Tables(policy, device)


def shrink_matrices(side: int, sizes: range, rows: int, antialias: bool) -> np.ndarray:
    """Every filter's way from `side` pixels to n, as `cpu.shrink` does it.

    Args:
        side: pixels of the whole image.
        sizes: the n, from 1 to `side`.
        rows: of each matrix, >= all n. Rows from n on repeat row n - 1, as a JPEG encoder pads an image.
        antialias: see `cpu.shrink`.

    Returns:
        float32 (filters, sizes, rows, side).
    """
    table = np.empty((len(FILTERS), len(sizes), rows, side), np.float32)
    for code, name in enumerate(FILTERS):
        for at, size in enumerate(sizes):
            matrix: np.ndarray = np.eye(side, dtype=np.float32)
            while antialias and name not in ("nearest", "area") and len(matrix) >= 2 * size:
                matrix = cv2.resize(matrix, (side, len(matrix) // 2), interpolation=cv2.INTER_AREA)
            table[code, at, :size] = cv2.resize(matrix, (side, size), interpolation=FLAGS[name])
            table[code, at, size:] = table[code, at, size - 1]
    return table


def enlarge_matrices(side: int, sizes: range, columns: int) -> np.ndarray:
    """Every filter's way from n pixels to `side`: float32 (filters, sizes, side, columns), 0 in columns from n on."""
    table = np.zeros((len(FILTERS), len(sizes), side, columns), np.float32)
    for code, name in enumerate(FILTERS):
        for at, size in enumerate(sizes):
            matrix = np.eye(size, dtype=np.float32)
            table[code, at, :, :size] = cv2.resize(matrix, (size, side), interpolation=FLAGS[name])
    return table


def _levels(x: Tensor) -> Tensor:
    return x.round_().clamp_(0, 255)


def _where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Image by image; condition (B,), 0 for no."""
    return torch.where((condition != 0)[:, None, None, None], yes, no)


def _inside(start: Tensor, length: Tensor) -> Tensor:
    """(B, 112): 1 for the pixels in [start, start + length), else 0."""
    pixel = torch.arange(SIDE, device=start.device)
    return ((pixel >= start[:, None]) & (pixel < (start + length)[:, None])).float()


def _enlarged(start: Tensor, length: Tensor) -> Tensor:
    """(B, 112, 112): bilinear weights that enlarge the pixels [start, start + length) to all 112."""
    pixel = torch.arange(SIDE, device=start.device, dtype=torch.float32)
    source = (pixel + 0.5) * (length / SIDE)[:, None] - 0.5
    source = source.clamp(min=0).minimum(length[:, None] - 1) + start[:, None]  # (B, 112)
    return (1 - (source[:, :, None] - pixel).abs()).clamp_(min=0)


def _adjust(x: Tensor, kind: Tensor, factor: Tensor) -> Tensor:
    """clip(factor x + (1 - factor) r), r by kind: 0 (brightness), the mean grey (contrast), the grey (saturation)."""
    red, green, blue = x.split(1, dim=1)
    grey = (GREY[0] * red + GREY[1] * green + GREY[2] * blue).round()
    kind, factor = (value[:, None, None, None] for value in (kind, factor))
    towards = torch.where(kind == 2, grey, grey.mean(dim=(2, 3), keepdim=True) * (kind == 1))
    return _levels(factor * x + (1 - factor) * towards)


def _rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise about the centre, bilinear, black outside."""
    angle = torch.deg2rad(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [torch.stack([cosine, -sine, zero], dim=1), torch.stack([sine, cosine, zero], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=True)
    return _levels(F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True))

"""What is drawn for every pair: a pure function of (seed, epoch, index), one batch at a time.

The numbers come from a hash, so no generator is made for a pair, and the degradation on the CPU and the one on the
device take the same `Plan`. B pairs a batch; u stands for uniform numbers in [0, 1).
"""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import numpy as np

from ...config.degradation import FILTERS, DegradationPolicy

SIDE = 112  # pixels
ORDERS = np.array(list(permutations(range(3))))  # (6, 3)
BRIGHTNESS, CONTRAST, SATURATION = range(3)

# SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014)
_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Plan(NamedTuple):
    """How one image becomes its two views. A step that was not drawn has the value that changes nothing.

    Attributes:
        flip_high, flip_low: 1 to mirror the original view, the degraded one.
        crop_top, crop_left, crop_height, crop_width: a box in pixels; the whole image for no crop.
        small_height, small_width: pixels to shrink to; the image's own for no rescaling.
        down, up: filters, as indices of `policy.FILTERS`.
        jpeg_quality: 1 to 100; 0 for no JPEG.
        first, second, third: BRIGHTNESS, CONTRAST or SATURATION, each once, in the order in which they are changed.
        first_factor, second_factor, third_factor: 1 for no change.
        degrees: counter-clockwise; 0 for no rotation.
    """

    flip_high: float
    crop_top: float
    crop_left: float
    crop_height: float
    crop_width: float
    small_height: float
    small_width: float
    down: float
    up: float
    jpeg_quality: float
    first: float
    first_factor: float
    second: float
    second_factor: float
    third: float
    third_factor: float
    degrees: float
    flip_low: float


class Uniforms(NamedTuple):
    """u for every decision, each (B,); a decision never shifts the numbers of another."""

    flip_high: np.ndarray
    crops: np.ndarray
    area: np.ndarray
    aspect: np.ndarray
    top: np.ndarray
    left: np.ndarray
    rescales: np.ndarray
    ratio: np.ndarray
    down: np.ndarray
    up: np.ndarray
    compresses: np.ndarray
    photometric: np.ndarray
    order: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    saturation: np.ndarray
    rotates: np.ndarray
    angle: np.ndarray
    flip_low: np.ndarray


def uniforms(seed: int, epochs: np.ndarray, indices: np.ndarray) -> Uniforms:
    """The numbers of B pairs from (seed, epoch, index): SplitMix64 streams whose starts are hashes of the three.

    seed: in [0, 2**64); epochs, indices: whole numbers >= 0, (B,).
    """
    start = _hash(np.full(len(indices), seed, np.uint64) + _GOLDEN)
    start = _hash(start + np.asarray(epochs).astype(np.uint64) + _GOLDEN)
    start = _hash(start + np.asarray(indices).astype(np.uint64) + _GOLDEN)
    steps = np.arange(1, len(Uniforms._fields) + 1, dtype=np.uint64)[:, None] * _GOLDEN
    bits = _hash(start[None, :] + steps)  # (decisions, B)
    return Uniforms(*((bits >> np.uint64(11)) * 2.0**-53))


def draw(policy: DegradationPolicy, u: Uniforms, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """The plans of B images of `shape` (h, w): float32 (B, fields of Plan)."""
    size, (height, width) = len(u.ratio), shape
    plans = np.zeros((size, len(Plan._fields)), np.float32)
    column = Plan(*plans.T)
    column.flip_high[:] = u.flip_high < policy.flip_p
    column.flip_low[:] = u.flip_low < policy.flip_p

    cropped = u.crops < policy.crop_p
    whole = (0, 0, height, width)
    places = (column.crop_top, column.crop_left, column.crop_height, column.crop_width)
    for place, drawn, otherwise in zip(places, crop_boxes(policy, u, shape), whole, strict=True):
        place[:] = np.where(cropped, drawn, otherwise)

    rescaled = u.rescales < policy.rescale_p
    ratio = _between(u.ratio, *policy.rescale_ratio)
    for small, side in ((column.small_height, height), (column.small_width, width)):
        small[:] = np.where(rescaled, np.maximum(1, np.floor(side * ratio + 0.5)), side)
    codes = np.array([FILTERS.index(name) for name in policy.filters])
    column.down[:] = codes[(u.down * len(codes)).astype(int)]
    column.up[:] = codes[(u.up * len(codes)).astype(int)]
    column.jpeg_quality[:] = np.where(u.compresses < policy.jpeg_p, policy.jpeg_quality, 0)

    changed = u.photometric < policy.photometric_p
    widths = (policy.brightness, policy.contrast, policy.saturation)
    factors = np.stack([_between(v, 1 - x, 1 + x) for v, x in zip(u[13:16], widths, strict=True)])  # (3, B)
    order = ORDERS[(u.order * len(ORDERS)).astype(int)]  # (B, 3)
    rows = np.arange(size)
    for place in range(3):
        code = order[:, place]
        plans[:, 10 + 2 * place] = code
        plans[:, 11 + 2 * place] = np.where(changed, factors[code, rows], 1)

    turned = u.rotates < policy.rotation_p
    column.degrees[:] = np.where(turned, _between(u.angle, -policy.rotation_degrees, policy.rotation_degrees), 0)
    return plans


def crop_boxes(policy: DegradationPolicy, u: Uniforms, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Boxes top, left, height, width, each (B,), within (h, w) = `shape`: area first, then an aspect that fits in.

    The area keeps its distribution; redrawing boxes that do not fit would make large ones rarer.
    """
    height, width = shape
    area = _between(u.area, *policy.crop_area)
    square, reach = np.log(width / height), -np.log(area)  # aspects e^(square +- reach) fit in
    low, high = (np.clip(np.log(bound), square - reach, square + reach) for bound in policy.crop_aspect)
    aspect = np.exp(_between(u.aspect, low, high))
    pixels = area * height * width
    box_height = np.clip(np.rint(np.sqrt(pixels / aspect)), 1, height)
    box_width = np.clip(np.rint(np.sqrt(pixels * aspect)), 1, width)
    top = np.floor(u.top * (height - box_height + 1))
    left = np.floor(u.left * (width - box_width + 1))
    return top, left, box_height, box_width


def _between(u: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    return low + (high - low) * u


def _hash(z: np.ndarray) -> np.ndarray:
    """SplitMix64's output function, a bijection of uint64."""
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


# --- How strongly a view was degraded: one number from what was drawn for it, in octaves of lost resolution -----------
# Only what takes detail away or off the face counts; the image itself is not looked at. What the parts are worth beside
# each other is our choice, not a published one.


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

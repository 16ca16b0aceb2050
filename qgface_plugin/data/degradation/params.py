"""Drawn parameters of degraded views: a pure function of (seed, epoch, index), one batch at a time.

The numbers come from a hash, so no generator is made per pair, and the degradation on the CPU and the one on the device
take the same `ViewParams`. B pairs per batch; u stands for uniform numbers in [0, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from ...config.degradation import FILTERS, DegradationPolicy
from .camera import FWHM_STEPS

SIDE = 112  # pixels
ORDERS = np.array(list(permutations(range(3))))  # (6, 3)
BRIGHTNESS, CONTRAST, SATURATION = range(3)

# What the parts of a view's strength are worth beside each other is our choice, not a published one.
ROTATION = 90.0  # degrees that count as one octave
NOISE = 16.0  # levels of noise that count as one octave
DARKEST = 1.0 / 16.0  # smaller factors of brightness, contrast, saturation count as this one

# SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014)
_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class ViewParams(NamedTuple):
    """How B images become their two views. A step that was not drawn has the value that changes nothing.

    Fields are float32 arrays or tensors, (B,) unless said otherwise; in `images` they are the numbers of one image.

    Attributes:
        flip_high, flip_low: 1 to mirror the original view, the degraded one.
        crop_top, crop_left, crop_height, crop_width: a box in pixels; the whole image for no crop.
        small_height, small_width: pixels to shrink to; the image's own for no rescaling.
        down, up: filters, as indices of `config.degradation.FILTERS`.
        jpeg_quality: 1 to 100; 0 for no JPEG.
        order: (B, 3), BRIGHTNESS, CONTRAST and SATURATION, each once, in the order in which they are changed.
        factors: (B, 3), the factor of each step of `order`; 1 for no change.
        degrees: counter-clockwise; 0 for no rotation.
        shift_x, shift_y, zoom, tilt: misalignment: pixels to the right and down, factor of size, degrees
            counter-clockwise; 0, 0, 1, 0 for none.
        motion_length, motion_degrees: of the motion blur, pixels and degrees counter-clockwise; length 0 for none.
        atmosphere: FWHM of the air's blur in pixels, a multiple of 1/8; 0 for none.
        noise_read, noise_shot, noise_seed: standard deviations in levels and a whole number below 2**24; 0 for none.

    Example:
        >>> from qgface_plugin.config.degradation import OURS
        >>> params = draw(OURS, uniforms(0, np.array([0, 0]), np.array([3, 4])))
        >>> params.factors.shape, params.pack().shape
        ((2, 3), (2, 28))
        >>> [view.small_height for view in params.images()]
        [30.0, 20.0]
    """

    flip_high: Any
    crop_top: Any
    crop_left: Any
    crop_height: Any
    crop_width: Any
    small_height: Any
    small_width: Any
    down: Any
    up: Any
    jpeg_quality: Any
    order: Any
    factors: Any
    degrees: Any
    flip_low: Any
    shift_x: Any
    shift_y: Any
    zoom: Any
    tilt: Any
    motion_length: Any
    motion_degrees: Any
    atmosphere: Any
    noise_read: Any
    noise_shot: Any
    noise_seed: Any

    @property
    def box(self) -> tuple[Any, Any, Any, Any]:
        """The crop: top, left, height, width."""
        return self.crop_top, self.crop_left, self.crop_height, self.crop_width

    def images(self) -> Iterator[ViewParams]:
        """The parameters image by image, as Python's numbers; `order` and `factors` are lists of three."""
        return map(ViewParams._make, zip(*(field.tolist() for field in self), strict=True))

    def pack(self) -> np.ndarray:
        """All fields side by side in one float32 table (B, columns), which travels as one tensor."""
        return np.column_stack(self)

    @classmethod
    def unpack(cls, table: Any) -> ViewParams:
        """The fields of a table that `pack` has made: views of an array, or of the tensor that it has become."""
        widths = [_WIDTHS.get(name, 1) for name in cls._fields]
        assert table.shape[1] == sum(widths), f"{table.shape[1]} columns for fields of {sum(widths)}"
        fields, start = [], 0
        for width in widths:
            fields.append(table[:, start] if width == 1 else table[:, start : start + width])
            start += width
        return cls(*fields)


_WIDTHS = {"order": 3, "factors": 3}  # columns of the fields that have several


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
    misaligns: np.ndarray  # from here on of the steps like a camera's: behind all others, whose numbers stay theirs
    shift_x: np.ndarray
    shift_y: np.ndarray
    zoom: np.ndarray
    tilt: np.ndarray
    moves: np.ndarray
    motion_length: np.ndarray
    motion_degrees: np.ndarray
    trembles: np.ndarray
    atmosphere: np.ndarray
    noisy: np.ndarray
    noise_read: np.ndarray
    noise_shot: np.ndarray
    noise_seed: np.ndarray

    @classmethod
    def one(cls, policy: DegradationPolicy, rng: np.random.Generator) -> Uniforms:
        """The numbers of one image; those of a camera are taken from `rng` only where the policy has such steps."""
        count, plain = len(cls._fields), cls._fields.index("misaligns")
        drawn = rng.random((count if policy.like_a_camera else plain, 1))
        return cls(*drawn, *np.zeros((count - len(drawn), 1)))


def uniforms(seed: int, epochs: np.ndarray, indices: np.ndarray) -> Uniforms:
    """The numbers of B pairs: SplitMix64 streams whose starts are hashes of (seed, epoch, index).

    Args:
        seed: in [0, 2**64).
        epochs, indices: whole numbers >= 0, (B,).

    Returns:
        float64 in [0, 1), (B,) per decision.
    """
    start = _hash(np.full(len(indices), seed, np.uint64) + _GOLDEN)
    start = _hash(start + np.asarray(epochs).astype(np.uint64) + _GOLDEN)
    start = _hash(start + np.asarray(indices).astype(np.uint64) + _GOLDEN)
    steps = np.arange(1, len(Uniforms._fields) + 1, dtype=np.uint64)[:, None] * _GOLDEN
    bits = _hash(start[None, :] + steps)  # (decisions, B)
    return Uniforms(*((bits >> np.uint64(11)) * 2.0**-53))


def draw(policy: DegradationPolicy, u: Uniforms, shape: tuple[int, int] = (SIDE, SIDE)) -> ViewParams:
    """The parameters of B images.

    Args:
        policy: what to do, how strongly and how often.
        u: the numbers of the B images.
        shape: (h, w) of the images in pixels.

    Returns:
        float32 arrays.
    """
    height, width = shape
    cropped = u.crops < policy.crop_p
    boxes = zip(crop_boxes(policy, u, shape), (0, 0, height, width), strict=True)
    top, left, box_height, box_width = (np.where(cropped, drawn, whole) for drawn, whole in boxes)

    rescaled = u.rescales < policy.rescale_p
    ratio = _between(u.ratio, *policy.rescale_ratio)
    small_height, small_width = (
        np.where(rescaled, np.maximum(1, np.floor(side * ratio + 0.5)), side) for side in shape
    )
    codes = np.array([FILTERS.index(name) for name in policy.filters])

    changed = u.photometric < policy.photometric_p
    widths = (policy.brightness, policy.contrast, policy.saturation)
    drawn = zip((u.brightness, u.contrast, u.saturation), widths, strict=True)
    factors = np.stack([_between(v, 1 - x, 1 + x) for v, x in drawn], axis=1)  # (B, 3)
    order = ORDERS[(u.order * len(ORDERS)).astype(int)]  # (B, 3)
    turned = u.rotates < policy.rotation_p

    params = ViewParams(
        flip_high=u.flip_high < policy.flip_p,
        crop_top=top,
        crop_left=left,
        crop_height=box_height,
        crop_width=box_width,
        small_height=small_height,
        small_width=small_width,
        down=codes[(u.down * len(codes)).astype(int)],
        up=codes[(u.up * len(codes)).astype(int)],
        jpeg_quality=np.where(u.compresses < policy.jpeg_p, policy.jpeg_quality, 0),
        order=order,
        factors=np.where(changed[:, None], np.take_along_axis(factors, order, axis=1), 1),
        degrees=np.where(turned, _between(u.angle, -policy.rotation_degrees, policy.rotation_degrees), 0),
        flip_low=u.flip_low < policy.flip_p,
        **_like_a_camera(policy, u, shape),
    )
    return ViewParams(*(field.astype(np.float32) for field in params))


def _like_a_camera(policy: DegradationPolicy, u: Uniforms, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    misaligned, moved = u.misaligns < policy.misalign_p, u.moves < policy.motion_p
    trembled, noisy = u.trembles < policy.atmosphere_p, u.noisy < policy.noise_p
    reach, scale, turn = policy.misalign_shift, policy.misalign_scale, policy.misalign_degrees
    fwhm = np.rint(_between(u.atmosphere, *policy.atmosphere_fwhm) * FWHM_STEPS) / FWHM_STEPS
    return {
        "shift_x": np.where(misaligned, _between(u.shift_x, -reach, reach) * shape[1], 0),
        "shift_y": np.where(misaligned, _between(u.shift_y, -reach, reach) * shape[0], 0),
        "zoom": np.where(misaligned, _between(u.zoom, 1 - scale, 1 + scale), 1),
        "tilt": np.where(misaligned, _between(u.tilt, -turn, turn), 0),
        "motion_length": np.where(moved, _between(u.motion_length, *policy.motion_length), 0),
        "motion_degrees": np.where(moved, 180 * u.motion_degrees, 0),
        "atmosphere": np.where(trembled, fwhm, 0),
        "noise_read": np.where(noisy, _between(u.noise_read, *policy.noise_read), 0),
        "noise_shot": np.where(noisy, _between(u.noise_shot, *policy.noise_shot), 0),
        "noise_seed": np.where(noisy, np.floor(u.noise_seed * 2**24), 0),
    }


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


def strength(params: ViewParams, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """How strongly B views are degraded, in octaves of lost resolution, from what was drawn for them alone.

    Only what takes detail away or off the face counts. The sum of
        rescaling   log2(side / small side), geometric mean of both sides;
        JPEG        log2(1 + f), f the IJG's factor of the quantisation steps: 50 / q below quality q = 50, else
                    2 - q / 50 (1 octave at quality 50, 0.58 at 75);
        crop        log2 of side / crop's side, geometric mean of both sides;
        photometric |log2 factor| of each of the three, halved;
        rotation    |degrees| / 90;
        misaligned  |log2 factor| + |degrees| / 90 + twice the shift, as a share of the side;
        motion      log2 of its length in pixels, halved, as it blurs along one axis;
        atmosphere  log2 of its FWHM in pixels;
        noise       log2(1 + sigma / 16), sigma in levels at mid grey.

    Args:
        params: of images of `shape`, as arrays.
        shape: (h, w) in pixels.

    Returns:
        float32 (B,), at least 0; 0 where no step was drawn, mirroring aside.
    """
    params = ViewParams(*(field.astype(np.float64) for field in params))
    side = np.log2(np.asarray(shape, np.float64)).mean()
    rescaled = side - (np.log2(params.small_height) + np.log2(params.small_width)) / 2
    cropped = side - (np.log2(params.crop_height) + np.log2(params.crop_width)) / 2
    quality = np.maximum(params.jpeg_quality, 1)
    steps = np.where(quality < 50, 50 / quality, 2 - quality / 50)
    compressed = np.where(params.jpeg_quality > 0, np.log2(1 + steps), 0)
    changed = np.abs(np.log2(np.maximum(params.factors, DARKEST))).sum(1) / 2
    plain = rescaled + cropped + compressed + changed + np.abs(params.degrees) / ROTATION
    shift = np.hypot(params.shift_x / shape[1], params.shift_y / shape[0])
    misaligned = np.abs(np.log2(params.zoom)) + np.abs(params.tilt) / ROTATION + 2 * shift
    blurred = np.log2(np.maximum(params.motion_length, 1)) / 2 + np.log2(np.maximum(params.atmosphere, 1))
    noise = np.log2(1 + np.sqrt(params.noise_read**2 + params.noise_shot**2 / 2) / NOISE)
    return (plain + misaligned + blurred + noise).astype(np.float32)


def _between(u: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    return low + (high - low) * u


def _hash(z: np.ndarray) -> np.ndarray:
    """SplitMix64's output function, a bijection of uint64."""
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))

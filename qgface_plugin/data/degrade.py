"""One image to its degraded view, with OpenCV on uint8 RGB. Parameters and their ranges: `policy.py`.

Each step is a pure function of an image and drawn numbers; only `degrade` and `draw_crop` draw. Shapes: (h, w, 3).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import simplejpeg

from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.data.policy import DegradationPolicy
from qgface_plugin.errors import DataError

# "nearest" takes the pixel at the centre of its target: the plain flag takes the corner and shifts the face.
FLAGS = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


def degrade(image: np.ndarray, policy: DegradationPolicy, rng: np.random.Generator) -> np.ndarray:
    """The degraded view of a face.

    Args:
        image: uint8 (h, w, 3) RGB; not changed.
        policy: what to do, how strongly and how often.
        rng: the only source of randomness.

    Returns:
        uint8 (h, w, 3) RGB; `image` itself when no step was drawn.

    Raises:
        DataError: not a uint8 array of three channels.

    Source: DESIGN section 5, the paper's section IV-A/B.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"an image to degrade must be uint8 (h, w, 3); this is {image.dtype} {image.shape}")
    full = image.shape[:2]
    cropped = rng.random() < policy.crop_p
    box = draw_crop(full, policy, rng) if cropped else None
    if box and policy.crop_keeps_place:
        image = black_outside(image, box)
    rescaled = rng.random() < policy.rescale_p
    up = "nearest"
    if rescaled:
        ratio = _uniform(rng, *policy.rescale_ratio)
        down, up = (policy.filters[int(rng.random() * len(policy.filters))] for _ in range(2))
        image = shrink(image, ratio, down, policy.rescale_antialias)
    if rng.random() < policy.jpeg_p:
        image = compress(image, policy.jpeg_quality)
    if rescaled:
        image = enlarge(image, full, up)
    if box and not policy.crop_keeps_place:
        image = crop_and_resize(image, box)
    if rng.random() < policy.photometric_p:
        image = _photometric(image, policy, rng)
    if rng.random() < policy.rotation_p:
        image = rotate(image, _uniform(rng, -policy.rotation_degrees, policy.rotation_degrees))
    if rng.random() < policy.flip_p:
        image = flip(image)
    return image


def shrink(image: np.ndarray, ratio: float, name: str, antialias: bool) -> np.ndarray:
    """Scale both sides by `ratio` in (0, 1], at least to one pixel, with the named filter.

    OpenCV's bilinear, bicubic and Lanczos read a fixed number of pixels and skip the others. With `antialias` the
    image is first halved by area for as long as a factor of 2 or more is left. "area" needs no such help, and
    "nearest" always skips.
    """
    height, width = (max(1, int(side * ratio + 0.5)) for side in image.shape[:2])
    if antialias and name not in ("nearest", "area"):
        while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
            image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=FLAGS[name])


def enlarge(image: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    """Scale to (h, w) = `shape` with the named filter, rounding and saturating to uint8."""
    size = (shape[1], shape[0])
    if name != "lanczos":
        return cv2.resize(image, size, interpolation=FLAGS[name])
    # OpenCV's Lanczos is vectorised for float32 only: less than half the time of uint8.
    enlarged = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LANCZOS4)
    return cv2.add(enlarged, 0, dtype=cv2.CV_8U)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Through a JPEG with 4:2:0 chroma and back; `quality` 1 to 100."""
    return simplejpeg.decode_jpeg(encode_jpeg(image, quality), "RGB")


def draw_crop(shape: tuple[int, int], policy: DegradationPolicy, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A box (top, left, height, width) within (h, w) = `shape`: area first, then an aspect with which it fits in.

    The area keeps its distribution; redrawing boxes that do not fit would make large ones rarer.
    """
    height, width = shape
    area = _uniform(rng, *policy.crop_area)
    low, high = (math.log(aspect) for aspect in policy.crop_aspect)
    square = math.log(width / height)
    fit_low, fit_high = square + math.log(area), square - math.log(area)
    low, high = (min(max(bound, fit_low), fit_high) for bound in (low, high))
    aspect = math.exp(_uniform(rng, low, high))
    pixels = area * height * width
    box_height = min(height, max(1, round(math.sqrt(pixels / aspect))))
    box_width = min(width, max(1, round(math.sqrt(pixels * aspect))))
    top = int(rng.random() * (height - box_height + 1))
    left = int(rng.random() * (width - box_width + 1))
    return top, left, box_height, box_width


def crop_and_resize(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The box (top, left, height, width), enlarged bilinearly to the image's size."""
    top, left, height, width = box
    inner = image[top : top + height, left : left + width]
    return cv2.resize(inner, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)


def black_outside(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The image with everything outside the box (top, left, height, width) black."""
    top, left, height, width = box
    kept = np.zeros_like(image)
    kept[top : top + height, left : left + width] = image[top : top + height, left : left + width]
    return kept


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """clip(factor x)."""
    return _through_table(image, factor, 0.0)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """clip(factor x + (1 - factor) mean), `mean` of the whole image's grey."""
    mean = float(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0])
    return _through_table(image, factor, (1.0 - factor) * mean)


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """clip(factor x + (1 - factor) grey), `grey` of each pixel (ITU-R 601)."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1.0 - factor, 0.0)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Counter-clockwise about the centre, black outside, bilinear: nearest would cut steps that no camera makes."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def flip(image: np.ndarray) -> np.ndarray:
    """Mirrored left to right."""
    return cv2.flip(image, 1)


def _photometric(image: np.ndarray, policy: DegradationPolicy, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation in random order, each rounded and clipped before the next."""
    steps = ((brightness, policy.brightness), (contrast, policy.contrast), (saturation, policy.saturation))
    for which in rng.permutation(3).tolist():
        adjust, half_width = steps[which]
        image = adjust(image, _uniform(rng, 1.0 - half_width, 1.0 + half_width))
    return image


def _through_table(image: np.ndarray, gain: float, offset: float) -> np.ndarray:
    levels = np.arange(256, dtype=np.float64)
    return cv2.LUT(image, np.clip(np.rint(gain * levels + offset), 0, 255).astype(np.uint8))


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    # Generator.uniform costs more than the arithmetic, and degrading one image calls it up to nine times.
    return low + (high - low) * rng.random()

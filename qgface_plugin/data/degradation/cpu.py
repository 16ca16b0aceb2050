"""Degradation of one image with OpenCV, on uint8 RGB. What is drawn and how often: `params.py`.

Each step is a pure function of an image and drawn numbers. `gpu.py` is the same for a batch on a GPU.
Shapes: (h, w, 3).
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from ...config.degradation import FILTERS, DegradationPolicy
from ...utils.errors import DataError
from .camera import FWHM_STEPS, air_kernel, blur, misalign, motion_kernel, sensor_noise
from .custom_steps import CustomSteps
from .params import BRIGHTNESS, CONTRAST, SATURATION, Uniforms, ViewParams, draw, strength

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

    Source: the paper's section IV-A/B.
    """
    return degrade_and_measure(image, policy, rng)[0]


def degrade_and_measure(
    image: np.ndarray, policy: DegradationPolicy, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The same view as `degrade`, and how strongly it is degraded, in octaves, at least 0 (see `params.strength`)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"an image to degrade must be uint8 (h, w, 3); this is {image.dtype} {image.shape}")
    u = Uniforms.one(policy, rng)
    params = draw(policy, u, image.shape[:2])
    custom = CustomSteps(policy.steps, rng) if policy.steps else None
    view = apply(image, next(params.images()), policy, custom)
    return view, float(strength(params, image.shape[:2])[0]) + (custom.strength if custom else 0.0)


def apply(
    image: np.ndarray, view: ViewParams, policy: DegradationPolicy, custom: CustomSteps | None = None
) -> np.ndarray:
    """The degraded view by drawn parameters.

    Args:
        image: uint8 (h, w, 3) RGB; not changed.
        view: the parameters of this one image, as `ViewParams.images` gives them.
        policy: of it only `crop_keeps_place` and `rescale_antialias` count: the rest is in `view`.
        custom: the policy's further steps, whose strength it holds afterwards.

    Returns:
        uint8 (h, w, 3) RGB; `image` itself where there is nothing to do.
    """
    full = image.shape[:2]
    top, left, height, width = view.box
    box = int(top), int(left), int(height), int(width)
    small = int(view.small_height), int(view.small_width)
    cropped, rescaled = box[2:] != full, small != full
    image = before_shrinking(image, view)
    if custom:
        image = custom.run(image, at_small_size=False)
    if cropped and policy.crop_keeps_place:
        image = black_outside(image, box)
    if rescaled:
        image = shrink(image, small, FILTERS[int(view.down)], policy.rescale_antialias)
    if view.noise_read or view.noise_shot:
        image = sensor_noise(image, view.noise_read, view.noise_shot, int(view.noise_seed))
    if custom:
        image = custom.run(image, at_small_size=True)
    if view.jpeg_quality:
        image = compress(image, int(view.jpeg_quality))
    if rescaled:
        image = enlarge(image, full, FILTERS[int(view.up)])
    if cropped and not policy.crop_keeps_place:
        image = crop_and_resize(image, box)
    for step, factor in zip(view.order, view.factors, strict=True):
        if factor != 1:
            image = ADJUST[int(step)](image, factor)
    if view.degrees:
        image = rotate(image, view.degrees)
    return flip(image) if view.flip_low else image


def before_shrinking(image: np.ndarray, view: ViewParams) -> np.ndarray:
    """Misaligned, moved and seen through air, as far as drawn; `image` itself where nothing was."""
    if view.shift_x or view.shift_y or view.tilt or view.zoom != 1:
        image = misalign(image, (view.shift_x, view.shift_y), view.zoom, view.tilt)
    if view.motion_length:
        image = blur(image, motion_kernel(view.motion_length, view.motion_degrees))
    if view.atmosphere:
        image = blur(image, air_kernel(round(view.atmosphere * FWHM_STEPS)))
    return image


def shrink(image: np.ndarray, shape: tuple[int, int], name: str, antialias: bool) -> np.ndarray:
    """Scale down to (h, w) = `shape` with the named filter.

    OpenCV's bilinear, bicubic and Lanczos read a fixed number of pixels and skip the others. With `antialias` the
    image is first halved by area for as long as a factor of 2 or more is left. "area" needs no such help, and
    "nearest" always skips.
    """
    height, width = shape
    if antialias and name not in ("nearest", "area"):
        while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
            image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image if image.shape[:2] == shape else _resize(image, shape, name)


def enlarge(image: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    """Scale up to (h, w) = `shape` with the named filter, rounding and saturating to uint8."""
    return _resize(image, shape, name)


def _resize(image: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    size = (shape[1], shape[0])
    if name != "lanczos":
        return cv2.resize(image, size, interpolation=FLAGS[name])
    # OpenCV's Lanczos is vectorised for float32 only: a fifth of the time of uint8.
    resized = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LANCZOS4)
    return cv2.convertScaleAbs(cv2.max(resized, 0))  # type: ignore[call-overload] # a number does, too


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Through a JPEG with 4:2:0 chroma and back; `quality` 1 to 100."""
    # Not simplejpeg: below quality 96 it encodes with libjpeg's fast DCT, whose artefacts are others.
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return simplejpeg.decode_jpeg(encoded, "RGB")


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
    return cv2.convertScaleAbs(image, alpha=factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """clip(factor x + (1 - factor) mean), `mean` of the whole image's grey."""
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return cv2.addWeighted(image, factor, image, 0.0, (1.0 - factor) * mean)


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """clip(factor x + (1 - factor) grey), `grey` of each pixel (ITU-R 601)."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1.0 - factor, 0.0)


ADJUST = {BRIGHTNESS: brightness, CONTRAST: contrast, SATURATION: saturation}


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Counter-clockwise about the centre, black outside, bilinear: nearest would cut steps that no camera makes."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    # OpenCV takes four channels in half the time of three.
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    turned = cv2.warpAffine(four, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB)


def flip(image: np.ndarray) -> np.ndarray:
    """Mirrored left to right."""
    return cv2.flip(image, 1)

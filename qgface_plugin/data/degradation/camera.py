"""Steps that a camera adds to a face, on uint8 RGB: misalignment, motion blur, air, sensor noise.

For a batch on a device: `gpu_camera.py`.

What is drawn and how often: `params.py`. Kernels and noise are functions of drawn numbers alone, so both agree.
Shapes: (h, w, 3).
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

FWHM_STEPS = 8  # kernels of the air per pixel of FWHM
ROW = 4096  # numbers of noise that a row of an image reserves


def misalign(image: np.ndarray, shift: tuple[float, float], zoom: float, degrees: float) -> np.ndarray:
    """A similarity about the centre, bilinear; beyond the image its edge goes on, as no face crop has a black corner.

    Args:
        image: uint8 RGB.
        shift: pixels to the right and down.
        zoom: factor of size; above 1 the face becomes larger.
        degrees: counter-clockwise.
    """
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[:, 2] += np.array(shift)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlation with a kernel (k, k) of odd k, rounded; beyond the image its edge goes on."""
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def motion_kernel(length: float, degrees: float) -> np.ndarray:
    """The path of a point that moves evenly: a line of `length` pixels, one pixel wide.

    Args:
        length: pixels; 1 and less is a point.
        degrees: counter-clockwise from the rows.

    Returns:
        float32 (k, k), sum 1; k is the smallest odd number that holds the line.
    """
    half, angle = max(length - 1, 0) / 2, math.radians(degrees)
    reach = math.ceil(half)
    across, down = math.cos(angle), -math.sin(angle)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.clip(x * across + y * down, -half, half)
    weights = np.maximum(1 - np.hypot(x - along * across, y - along * down), 0)
    return (weights / weights.sum()).astype(np.float32)


@lru_cache(maxsize=256)
def air_kernel(step: int) -> np.ndarray:
    """The blur of turbulent air in a long exposure, FWHM `step` / FWHM_STEPS pixels.

    Its MTF is exp(-3.44 (f w / 0.98)^(5/3)), f in cycles per pixel, w the FWHM: longer tails than a Gaussian's.

    Returns:
        float32 (k, k), sum 1, read-only; k is odd and above 3 w.

    Source: D. L. Fried, "Optical resolution through a randomly inhomogeneous medium for very long and very short
    exposures", 1966.
    """
    fwhm = step / FWHM_STEPS
    reach = air_reach(fwhm)
    frequency = np.fft.fftfreq(16 * (reach + 1))
    mtf = np.exp(-3.44 * (np.hypot(frequency[:, None], frequency) * fwhm / 0.98) ** (5 / 3))
    spread = np.fft.fftshift(np.fft.ifft2(mtf).real)
    middle = len(frequency) // 2
    kernel = spread[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1].clip(min=0)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    kernel.setflags(write=False)
    return kernel


def air_reach(fwhm: float) -> int:
    """Pixels from the centre of the kernel of the air to its edge."""
    return math.ceil(1.5 * fwhm)


def sensor_noise(image: np.ndarray, read: float, shot: float, seed: int) -> np.ndarray:
    """Normal noise of variance read^2 + shot^2 x / 255 at level x, each channel for itself, rounded and clipped.

    Args:
        image: uint8 RGB.
        read: standard deviation in the dark, in levels.
        shot: what light adds to it, at white.
        seed: whole number, 0 to 2**24 - 1.
    """
    levels = image.astype(np.float32)
    deviation = np.sqrt(np.float32(read) ** 2 + np.float32(shot) ** 2 * levels / 255)
    noisy = levels + deviation * normal(image.shape[0], image.shape[1], seed)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def normal(height: int, width: int, seed: int) -> np.ndarray:
    """Standard normal numbers, float32 (h, w, 3), a function of seed, row, column and channel (Box and Muller)."""
    row, column, channel = np.ogrid[:height, :width, :3]
    count = ((row * ROW + column) * 3 + channel).astype(np.uint32) * np.uint32(2)
    start = _mixed(np.array([seed], np.uint32))
    first, second = (_mixed(count + np.uint32(k) + start) >> np.uint32(8) for k in (0, 1))
    radius = np.sqrt(-2 * np.log((first.astype(np.float32) + np.float32(0.5)) / np.float32(2**24)))
    return radius * np.cos(second.astype(np.float32) * np.float32(2 * math.pi / 2**24))


def _mixed(h: np.ndarray) -> np.ndarray:
    """MurmurHash3's finaliser, a bijection of uint32, after a step of the golden ratio."""
    h = h * np.uint32(0x9E3779B9) + np.uint32(0x7F4A7C15)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))

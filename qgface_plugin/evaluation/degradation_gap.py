"""Distance of a degradation policy from given probes: spectrum of the images, and norms under an encoder.

A policy that looks like a camera has both near those of the camera's probes. N images, uint8 (N, h, w, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..config.degradation import DegradationPolicy
from ..data.degradation.cpu import apply
from ..data.degradation.params import draw, uniforms

RINGS = 16  # of spatial frequency, up to half a cycle per pixel
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601


@dataclass(frozen=True)
class Gap:
    """How far one set of images is from the probes.

    Attributes:
        spectrum_db: root mean square over the rings of the difference of mean log power, in decibels.
        high_db: that difference in the upper half of the rings, signed: above 0 the images have more fine detail.
        norm_mean, norm_std: of the images under the encoder.
        norm_ks: largest difference of the two distribution functions of the norm, 0 (the same) to 1 (apart).
    """

    spectrum_db: float
    high_db: float
    norm_mean: float
    norm_std: float
    norm_ks: float


def degraded(faces: np.ndarray, policy: DegradationPolicy | None, seed: int, progress: str | None = None) -> np.ndarray:
    """The degraded views, one of each face, as the first epoch of a run with that seed draws them; None: the faces."""
    if policy is None:
        return faces
    params = draw(policy, uniforms(seed, np.zeros(len(faces), int), np.arange(len(faces))), faces.shape[1:3])
    views = tqdm(
        zip(faces, params.images(), strict=True), total=len(faces), desc=progress, disable=progress is None
    )  # fmt: skip
    return np.stack([apply(face, view, policy) for face, view in views])


def log_spectrum(images: np.ndarray) -> np.ndarray:
    """Mean over images of the log power in each ring of spatial frequency, decibels, (RINGS,).

    The grey image less its mean, under a Hann window, so that the borders do not count as edges. Logarithms are taken
    image by image: a few sharp ones do not hide many blurred ones. The floor is what rounding to whole levels adds.
    """
    height, width = images.shape[1:3]
    window = np.outer(np.hanning(height), np.hanning(width))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    ring = np.minimum((radius * 2 * RINGS).astype(int), RINGS)  # the corners beyond half a cycle are left out
    counts = np.bincount(ring.ravel(), minlength=RINGS + 1)[:RINGS]
    total = np.zeros(RINGS)
    for image in images:
        grey = image @ GREY
        power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2 / (window**2).sum()
        sums = np.bincount(ring.ravel(), power.ravel(), minlength=RINGS + 1)[:RINGS]
        total += 10 * np.log10(sums / np.maximum(counts, 1) + 1.0 / 12)  # rounding to whole levels has that power
    return total / len(images)


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of two empirical distribution functions.

    Example:
        >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        0.5
    """
    points = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def gaps(probes: tuple[np.ndarray, np.ndarray], sets: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Gap]:
    """How far each set is from the probes.

    Args:
        probes: images, and their norms under the encoder.
        sets: name -> images and norms.
    """
    aim = log_spectrum(probes[0])
    found = {}
    for name, (images, norms) in sets.items():
        difference = log_spectrum(images) - aim
        found[name] = Gap(
            float(np.sqrt((difference**2).mean())),
            float(difference[RINGS // 2 :].mean()),
            float(norms.mean()),
            float(norms.std()),
            kolmogorov_smirnov(norms, probes[1]),
        )
    return found

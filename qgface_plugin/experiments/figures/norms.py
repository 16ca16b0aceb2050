"""Figures of norms: against the similarity of a pair, and under each kind of change of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...data.bin_files import read_bin
from ...data.degradation import cpu
from ...evaluation.norm_order import compare_norms, degraded_copies
from ...evaluation.report.canvas import COLOURS, new_figure, save
from ...models import FaceModel
from ...utils.errors import DataError
from ...utils.sampling import evenly_spaced

MOST = 500  # images that are changed
BLUE, RED = COLOURS[:2]


def draw_norms(folder: Path, model: FaceModel, pairs: str | Path, name: str = "norm_similarity") -> list[Path]:
    """Heat maps over the smaller norm of a pair and its cosine: genuine and impostor pairs of a `.bin` set.

    They tell whether pairs whose worse image has a small norm are the ones that are hard to verify. Half of the pairs
    have their second image degraded, so that there are bad images among them. The line is the mean cosine by norm.

    Args:
        folder: where the files go.
        model: the encoder.
        pairs: the `.bin` file.
        name: of the files.

    Returns:
        The PDF and the PNG.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: a set that cannot be read, or files that cannot be written.
    """
    pair_set = read_bin(pairs)
    images = pair_set.decode()
    first, second = images[0::2], images[1::2].copy()
    bad = np.arange(len(second)) % 2 == 1
    if bad.any():
        second[bad] = degraded_copies(second[bad])
    one, other = model.embed(first), model.embed(second)
    norms = np.minimum(one.norms, other.norms)
    cosine = (one.original * other.original).sum(1) / (one.norms * other.norms)
    shortest, longest = np.percentile(norms, (0.5, 99.5))
    edges = np.linspace(shortest, longest, 25), np.linspace(-0.4, 1.0, 29)
    figure = new_figure(7.2, 3.1)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, kind, mask in zip(panels, ("same person", "others"), (pair_set.same, ~pair_set.same), strict=True):
        counts, _, _ = np.histogram2d(norms[mask], cosine[mask], bins=edges)
        mesh = panel.pcolormesh(*edges, counts.T / max(mask.sum(), 1), cmap="cividis", rasterized=True)
        middle, means = _means(norms[mask], cosine[mask], edges[0])
        panel.plot(middle, means, color="white", lw=1.4)
        panel.set_title(f"{kind}: {mask.sum()} pairs", fontsize=9)
        panel.set_xlabel("smaller norm of the pair")
        bar = figure.colorbar(mesh, ax=panel)
    bar.set_label("share of pairs")
    panels[0].set_ylabel("cosine similarity")
    return save(figure, folder, name)


def _means(norms: np.ndarray, cosine: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle of every third of eight bins with at least five pairs, and their mean cosine."""
    coarse = edges[::3]
    bin_of = np.digitize(norms, coarse) - 1
    bins = [b for b in range(len(coarse) - 1) if (bin_of == b).sum() >= 5]
    return (coarse[:-1] + coarse[1:])[bins] / 2, np.array([cosine[bin_of == b].mean() for b in bins])


@dataclass(frozen=True)
class StepNorm:
    """What one kind of change does to the norms of images.

    Attributes:
        name: of the change.
        order: share of the images whose norm is above that of their changed copy, ties counted as halves.
        ratio: mean norm of the copies by that of the images.
    """

    name: str
    order: float
    ratio: float


def _rescaled(image: np.ndarray, ratio: float, name: str, quality: int = 0) -> np.ndarray:
    height, width = (max(1, round(side * ratio)) for side in image.shape[:2])
    small = cpu.shrink(image, (height, width), name, antialias=True)
    return cpu.enlarge(cpu.compress(small, quality) if quality else small, image.shape[:2], name)


def _cropped(image: np.ndarray, side: float) -> np.ndarray:
    height, width = (round(length * side) for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return cpu.crop_and_resize(image, (top, left, height, width))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{
        f"side / {divisor}, {name}": partial(_rescaled, ratio=1 / divisor, name=name)
        for divisor in (2, 4, 10)
        for name in ("nearest", "bilinear", "bicubic")
    },
    "side / 4, bilinear, JPEG 75": partial(_rescaled, ratio=1 / 4, name="bilinear", quality=75),
    "brightness x 0.8": partial(cpu.brightness, factor=0.8),
    "brightness x 1.2": partial(cpu.brightness, factor=1.2),
    "contrast x 0.8": partial(cpu.contrast, factor=0.8),
    "contrast x 1.2": partial(cpu.contrast, factor=1.2),
    "centre, 0.9 of the side": partial(_cropped, side=0.9),
    "rotation by 10 degrees": partial(cpu.rotate, degrees=10.0),
    "rotation by 30 degrees": partial(cpu.rotate, degrees=30.0),
}


def norms_by_step(model: FaceModel, images: np.ndarray) -> list[StepNorm]:
    """Each change of `CHANGES` on all images, uint8 (N, h, w, 3) RGB, N at least 1."""
    before = model.embed(images).norms
    steps = []
    for name, change in CHANGES.items():
        after = model.embed(np.stack([change(image) for image in images])).norms
        compared = compare_norms(before, after)
        steps.append(StepNorm(name, compared.share, compared.degraded.mean / compared.sharp.mean))
    return steps


def draw_norm_steps(folder: Path, model: FaceModel, pairs: str | Path, name: str = "norm_steps") -> list[Path]:
    """Norm order and mean norm under each change, on at most MOST images of a `.bin` set.

    A norm that tells quality falls under every one of them.

    Args:
        folder: where the files go.
        model: the encoder.
        pairs: the `.bin` file.
        name: of the files.

    Returns:
        The PDF and the PNG.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: a set that cannot be read, or files that cannot be written.
    """
    images = read_bin(pairs).decode()
    if len(images) == 0:
        raise DataError(f"{pairs}: no images in it")
    images = images[evenly_spaced(len(images), MOST)]
    measured = norms_by_step(model, images)
    figure = new_figure(7.2, 4.0)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(measured))
    order, ratio = np.array([step.order for step in measured]), np.array([step.ratio for step in measured])
    for panel, values, chance, falls in ((left, order, 0.5, order > 0.5), (right, ratio, 1.0, ratio < 1.0)):
        panel.axvline(chance, color="0.6", lw=0.8)
        panel.hlines(rows, chance, values, color=np.where(falls, BLUE, RED), lw=1.2)
        panel.scatter(values, rows, c=np.where(falls, BLUE, RED), s=18, zorder=3)
        panel.grid(axis="x", lw=0.3)
    left.set_yticks(rows, [step.name for step in measured], fontsize=8)
    left.invert_yaxis()
    left.set_xlim(-0.03, 1.03)
    left.set_xlabel("share of images whose norm falls")
    right.set_xlabel("mean norm by that of the images")
    figure.suptitle(f"{len(images)} images; blue: the norm falls, as quality does", fontsize=9)
    return save(figure, folder, name)

"""Norm against similarity: are pairs whose worse image has a small norm the ones that are hard to verify?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.bin_files import read_bin
from ...evaluation.models import FaceModel
from ...evaluation.norm_order import degraded_copies
from .canvas import new_figure, save


def draw_norms(folder: Path, model: FaceModel, pairs: str | Path, name: str = "norm_similarity") -> list[Path]:
    """Heat maps over the smaller norm of a pair and its cosine: genuine and impostor pairs of a `.bin` set.

    Half of the pairs have their second image degraded, so that there are bad images in it. The line is the mean
    cosine by norm. Raises DataError for a set that cannot be read.
    """
    found = read_bin(pairs)
    images = found.decode()
    first, second = images[0::2], images[1::2].copy()
    bad = np.arange(len(second)) % 2 == 1
    if bad.any():
        second[bad] = degraded_copies(second[bad])
    one, other = model.embed(first), model.embed(second)
    norms = np.minimum(one.norms, other.norms)
    cosine = (one.original * other.original).sum(1) / (one.norms * other.norms)
    edges = np.linspace(*np.percentile(norms, (0.5, 99.5)), 25), np.linspace(-0.4, 1.0, 29)
    figure = new_figure(7.2, 3.1)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, kind, mask in zip(panels, ("same person", "others"), (found.same, ~found.same), strict=True):
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
    place = np.digitize(norms, coarse) - 1
    bins = [b for b in range(len(coarse) - 1) if (place == b).sum() >= 5]
    return (coarse[:-1] + coarse[1:])[bins] / 2, np.array([cosine[place == b].mean() for b in bins])

"""Quality: one score per row, without gradient, larger for better images; its sources by name.

A custom source is a `QualitySource` in one file that the recipe imports, made known by `quality_source`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from ..utils import distributed
from ..utils.registry import QUALITY_SOURCES
from .functional import NORM_RANGE, cosines


@dataclass(frozen=True)
class BatchRows:
    """What a source may use of the N rows of the global batch; nothing here has a gradient.

    Attributes:
        raw: (N, d) embeddings h.
        unit: (N, d) h / ||h||.
        centres: (n, d) this rank's class centres.
        index: (k,) ascending, the centres that compete in this step; None for all.
        position: (N,) index of each row's class among the centres that compete, -1 where another rank owns it.
        norms: (N,) ||h||.
    """

    raw: Tensor
    unit: Tensor
    centres: Tensor
    index: Tensor | None
    position: Tensor
    norms: Tensor


class Quality(NamedTuple):
    """The quality of the N rows of the global batch, from the scores of a source to eq. 1; without gradient.

    Attributes:
        scores: (N,) of the source, such as the norms.
        mean: () running mu of the scores, after this batch.
        std: () running sigma of the scores, after this batch.
        zhat: (N,) in [-1, 1], eq. 1; the gates follow it.
        margin_zhat: (N,) in [-1, 1] where the margin follows another source (`margin_quality`), else None.
        of_norms: the source is the norm of the embeddings.
    """

    scores: Tensor
    mean: Tensor
    std: Tensor
    zhat: Tensor
    margin_zhat: Tensor | None
    of_norms: bool


@dataclass(frozen=True)
class QualitySource:
    """A source of quality, named by `config.qgface.quality`. Exactly one of the functions is given.

    Args:
        name: what the setting calls it.
        limits: scores are clipped to (low, high) before statistics and eq. 1. Eq. 1 divides by max(sigma, 1e-3), so a
            source should have a standard deviation well above that.
        of_rows: (N,) scores from the criterion's rows, the same on every rank; collectives from `distributed` only.
        of_images: (2B,) scores that the training loop measures and hands to the criterion: from the images as the
            encoder sees them, float (2B, 3, h, w) in [-1, 1], originals first, and from `strength` (2B,), how strongly
            the loader has degraded each view (None where it does not say).
        of_teacher: (2B,) scores from the embeddings (2B, d) that the frozen teacher has of both views, originals first;
            the training loop hands them over as it does those `of_images`.

    Raises:
        ValueError: none or several of the functions, or limits that are not (low, high).

    Example:
        >>> source = QualitySource("brightness", (-1.0, 1.0), of_images=lambda images, strength: images.mean((1, 2, 3)))
        >>> source.of_images(torch.full((2, 3, 8, 8), 0.5), None)
        tensor([0.5000, 0.5000])
    """

    name: str
    limits: tuple[float, float]
    of_rows: Callable[[BatchRows], Tensor] | None = None
    of_images: Callable[[Tensor, Tensor | None], Tensor] | None = None
    of_teacher: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if sum(of is not None for of in (self.of_rows, self.of_images, self.of_teacher)) != 1:
            raise ValueError(f"quality source {self.name!r} needs either of_rows or of_images or of_teacher")
        if not self.limits[0] < self.limits[1]:
            raise ValueError(f"quality source {self.name!r} has limits {self.limits}: they must be (low, high)")

    @property
    def module(self) -> str:
        """The module that its scores are computed in."""
        return (self.of_rows or self.of_images or self.of_teacher).__module__

    @property
    def given(self) -> bool:
        """Whether its scores come with the batch, from the training loop."""
        return self.of_rows is None


def quality_source(source: QualitySource) -> QualitySource:
    """Make a source known by its name and return it.

    Raises:
        ValueError: the name is one of the project's own sources.
    """
    return QUALITY_SOURCES.add(source.name, source)


def of_images(name: str, images: Tensor, strength: Tensor | None) -> Tensor | None:
    """What a training loop gives to the criterion as `quality`.

    Args:
        name: of the source.
        images: float (2B, 3, h, w) in [-1, 1], originals first.
        strength: (2B,) of the batch's degradation, or None.

    Returns:
        (2B,) scores, or None where the source needs nothing of the training loop.
    """
    measure = QUALITY_SOURCES[name].of_images
    return None if measure is None else measure(images, strength)


def of_teacher(name: str, embeddings: Tensor) -> Tensor | None:
    """The same from the frozen teacher's embeddings (2B, d) of both views: (2B,) scores, or None."""
    measure = QUALITY_SOURCES[name].of_teacher
    return None if measure is None else measure(embeddings)


# --- How sure the classification is of a row's own class: the certainty ratio of CR-FIQA ------------------------------
# Boutros, Fang, Klemt, Fu, Damer, "CR-FIQA: Face Image Quality Assessment by Learning Sample Relative Classifiability",
# CVPR 2023, section 3. There a head learns to predict it; here it is the quality of a training row itself.


BLOCK = 8192  # class centres that are compared at a time
EPSILON = 1e-3  # keeps the ratio finite where even the nearest other centre is opposite


@torch.no_grad()
def certainty(rows: BatchRows) -> Tensor:
    """cos(h, W_y) / (1 + eps + max over j != y of cos(h, W_j)), (N,).

    Over the centres that compete in this step, of all ranks. Costs a product of all rows with these centres without
    gradient, a block at a time, and one all-reduce of (2, N) maxima.
    """
    own = rows.unit.new_full((len(rows.unit),), -math.inf)
    nearest = own.clone()
    for start in range(0, len(rows.centres if rows.index is None else rows.index), BLOCK):
        part = slice(start, start + BLOCK)
        centres = rows.centres[part] if rows.index is None else rows.centres.index_select(0, rows.index[part])
        cosine = cosines(rows.unit, centres)
        column = rows.position - start
        here, at = (column >= 0) & (column < cosine.shape[1]), column.clamp(0, cosine.shape[1] - 1).unsqueeze(1)
        of_own = cosine.gather(1, at).squeeze(1)
        own = torch.where(here, of_own, own)
        cosine.scatter_(1, at, of_own.masked_fill(here, -math.inf).unsqueeze(1))
        nearest = torch.maximum(nearest, cosine.amax(1))
    own, nearest = distributed.maximum(torch.stack([own, nearest])).unbind(0)
    return own / (nearest.clamp_min(-1.0) + 1.0 + EPSILON)  # one class alone has no other: as one that is opposite


CERTAINTY = quality_source(QualitySource("certainty", (-2.0, 2.0), of_rows=certainty))


# --- What the loader knows: minus the strength with which it has degraded a view --------------------------------------
# The originals of a training set have 0, whatever they look like: this source says nothing about blurred originals.


def degradation(images: Tensor, strength: Tensor | None) -> Tensor:
    """-strength (2B,), in octaves.

    Raises:
        ValueError: the batch does not say how its views were degraded.
    """
    if strength is None:
        raise ValueError("quality = 'degradation' needs batches that carry the strength of each view's degradation")
    return -strength


DEGRADATION = quality_source(QualitySource("degradation", (-16.0, 0.0), of_images=degradation))


# --- The paper's source: the norm of the raw embedding (section III-A, after Kim et al., "AdaFace", CVPR 2022) --------


def norm(rows: BatchRows) -> Tensor:
    """||h|| (N,)."""
    return rows.norms


NORM = quality_source(QualitySource("norm", NORM_RANGE, of_rows=norm))


# --- The same of the frozen teacher, which the training does not change: both views are embedded by it ----------------


def teacher_norm(embeddings: Tensor) -> Tensor:
    """||h|| (2B,) of the teacher's embeddings (2B, d)."""
    return embeddings.detach().float().norm(dim=1)


TEACHER = quality_source(QualitySource("teacher", NORM_RANGE, of_teacher=teacher_norm))


# --- How much fine detail the image has that the encoder sees: the mean logarithm of its Laplacian, at half size ------
# After the variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000).
# That one is ruled by the few strongest edges, and enlarging a small face by nearest neighbours, or JPEG, makes such
# edges at its blocks. The mean of the logarithm tells instead in how much of the image there is detail at all; half
# size leaves out noise, and the blur that alignment itself brings.


GREY = (0.299, 0.587, 0.114)  # ITU-R 601
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
LEVEL = 1.0 / 127.5  # one grey level: less than that is no detail


@torch.no_grad()
def sharpness(images: Tensor, strength: Tensor | None = None) -> Tensor:
    """mean of log(|Laplacian| + one grey level) over the half-size grey image, (N,), natural logarithm.

    images: float (N, 3, h, w) RGB in [-1, 1], h and w at least 6. `strength` is not looked at.
    """
    weights, kernel = _constants(images.device)
    grey = (images.float() * weights).sum(1, keepdim=True)
    return (conv2d(avg_pool2d(grey, 2), kernel).abs() + LEVEL).log().mean((1, 2, 3))


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """GREY and LAPLACIAN, made once on each device: a GPU waits for what comes from the host."""
    return torch.tensor(GREY, device=device).view(1, 3, 1, 1), torch.tensor(LAPLACIAN, device=device).view(1, 1, 3, 3)


SHARPNESS = quality_source(QualitySource("sharpness", (-6.0, 3.0), of_images=sharpness))


QUALITY_SOURCES.freeze()

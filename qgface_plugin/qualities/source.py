"""What a source of quality is: one number a row, without gradient, larger for better images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..utils.registry import QUALITY_SOURCES


class Rows(NamedTuple):
    """What the criterion knows of the N rows of the global batch; nothing here has a gradient.

    raw (N, d) embeddings; unit (N, d) the same, normalised; centres (n, d) this rank's class centres; index (k,)
    those that compete in this step, None for all; position (N,) place of each row's class among these, -1 where
    another rank owns it.
    """

    raw: Tensor
    unit: Tensor
    centres: Tensor
    index: Tensor | None
    position: Tensor


@dataclass(frozen=True)
class QualitySource:
    """A source, named by `config.qgface.quality`. Exactly one of `of_rows` and `of_images` is given.

    limits: numbers are clipped to (low, high) before statistics and eq. 1. Eq. 1 divides by max(sigma, 1e-3), so a
    source should have a standard deviation well above that.
    of_rows: (N,) numbers from the criterion's rows, the same on every rank; collectives from `distributed` only.
    of_images: (2B,) numbers that the host measures and hands to the criterion: from the images as the encoder sees
    them, float (2B, 3, h, w) in [-1, 1], originals first, and from `strength` (2B,), how strongly the loader has
    degraded each view (None where it does not say).
    """

    name: str
    limits: tuple[float, float]
    of_rows: Callable[[Rows], Tensor] | None = None
    of_images: Callable[[Tensor, Tensor | None], Tensor] | None = None

    def __post_init__(self) -> None:
        if (self.of_rows is None) == (self.of_images is None):
            raise ValueError(f"quality source {self.name!r} needs either of_rows or of_images")
        if not self.limits[0] < self.limits[1]:
            raise ValueError(f"quality source {self.name!r} has limits {self.limits}: they must be (low, high)")

    @property
    def module(self) -> str:
        """Where its numbers are computed."""
        return (self.of_rows or self.of_images).__module__


def quality_source(source: QualitySource) -> QualitySource:
    """Make a source known by its name and return it.

    Raises:
        ValueError: the name is one of the project's own sources.
    """
    return QUALITY_SOURCES.add(source.name, source)

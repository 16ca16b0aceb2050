"""10-fold face verification on pair sets: LFW, CFP-FP, AgeDB-30, CALFW, CPLFW, as arcface_torch reports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..features import Embeddings, embed
from ..metrics import TarAtFar, kfold_accuracy, pair_distances, roc, tar_at_far

FARS = (1e-3, 1e-2, 1e-1)


class Pairs(Protocol):
    """What `verify` needs of a pair set: `data.bins.PairSet` has it, and so has `DecodedPairs`."""

    name: str
    same: np.ndarray  # bool (N,)

    def decode(self) -> np.ndarray:
        """uint8 (2N, 112, 112, 3) RGB; images 2i and 2i + 1 are a pair."""


@dataclass(frozen=True)
class DecodedPairs:
    """A pair set held in memory as pixels, so that verifying it every epoch decodes it once (75 kB a pair)."""

    name: str
    same: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, pairs: Pairs) -> DecodedPairs:
        """Decode `pairs` now."""
        return cls(pairs.name, pairs.same, pairs.decode())

    def decode(self) -> np.ndarray:
        return self.images


@dataclass(frozen=True)
class VerificationResult:
    """Fractions, never percent."""

    name: str
    pairs: int
    accuracy: float  # mean over the folds
    std: float  # over the folds
    threshold: float  # squared euclidean distance of the fused, normalised features, mean over the folds
    auc: float
    xnorm: float  # mean norm of the raw features of images and mirror images
    tar_at_far: tuple[TarAtFar, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return {**asdict(self), "tar_at_far": [asdict(point) for point in self.tar_at_far]}


def verify(
    backbone: nn.Module,
    pair_set: Pairs,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    progress: str | None = None,
    folds: int = 10,
) -> VerificationResult:
    """Verify the pairs of `pair_set` with flip-fused features.

    backbone, batch_size, device, progress: as `evaluation.features.embed` takes them. To verify the same set again and
    again, pass `DecodedPairs.of(pair_set)`. Raises DataError (features that are not finite, pairs of one kind only,
    fewer pairs than folds).
    """
    embeddings = embed(backbone, pair_set.decode(), batch_size, device, progress)
    return verify_embeddings(embeddings, pair_set.same, pair_set.name, folds)


def verify_embeddings(
    embeddings: Embeddings, same: np.ndarray, name: str, folds: int = 10, fars: Sequence[float] = FARS
) -> VerificationResult:
    """Verify pairs whose embeddings are there: rows 2i and 2i + 1 are a pair, same (N,) bool. Raises DataError."""
    # Both views are added in float64, as arcface_torch adds them: a pair on a threshold is judged as it judges it.
    distances = pair_distances(embeddings.original.astype(np.float64) + embeddings.mirrored)
    accuracy = kfold_accuracy(distances, same, folds)
    curve = roc(-distances, same)
    return VerificationResult(
        name=name,
        pairs=len(distances),
        accuracy=accuracy.mean,
        std=accuracy.std,
        threshold=accuracy.threshold,
        auc=curve.auc,
        xnorm=embeddings.mean_norm,
        tar_at_far=tuple(tar_at_far(curve, None, fars)),
    )

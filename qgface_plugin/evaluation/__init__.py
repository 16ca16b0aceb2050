"""Evaluation, from images to reported numbers: embeddings with their norms, metrics, and protocols built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_names
from .metrics.verification import auc, kfold_accuracy, pair_distances, roc, tar_at_far
from .norm_order import NormOrder, compare_norms, norm_order  # the module has a function's name: not when asked for

if TYPE_CHECKING:
    from ..models import FaceModel, load_model
    from ..models.embeddings import Embeddings, embed
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"..models": ["FaceModel", "load_model"], "..models.embeddings": ["Embeddings", "embed"]}
    )

__all__ = [
    "Embeddings",
    "FaceModel",
    "NormOrder",
    "auc",
    "compare_norms",
    "embed",
    "kfold_accuracy",
    "load_model",
    "norm_order",
    "pair_distances",
    "roc",
    "tar_at_far",
]

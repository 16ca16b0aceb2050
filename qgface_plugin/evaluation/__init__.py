"""Evaluation, from images to reported numbers: embeddings with their norms, metrics, and protocols built of them."""

from __future__ import annotations

from ..models import FaceModel, load_model
from ..models.embeddings import Embeddings, embed
from .metrics.verification import auc, kfold_accuracy, pair_distances, roc, tar_at_far
from .norm_order import NormOrder, compare_norms, norm_order

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

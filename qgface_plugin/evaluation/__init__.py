"""From images to reported numbers: embeddings, metrics, and the protocols built of them."""

from __future__ import annotations

from .features import Embeddings, embed
from .metrics import auc, kfold_accuracy, pair_distances, roc, tar_at_far

__all__ = ["Embeddings", "auc", "embed", "kfold_accuracy", "pair_distances", "roc", "tar_at_far"]

"""What a batch of embeddings, labels and keys must look like before a loss is computed from it."""

from __future__ import annotations

import torch
from torch import Tensor


def check_batch(
    embeddings: Tensor,
    labels: Tensor,
    keys: Tensor | None,
    quality: Tensor | None = None,
    *,
    dim: int,
    views: int,
    needs_keys: bool,
    needs_quality: str | None = None,
) -> None:
    """Raise ValueError, naming what was expected and found, on a batch that is no batch of `views` views.

    embeddings (rows, dim), rows = views * B; labels (rows,); keys (rows, dim) exactly when `needs_keys`; quality
    (rows,) exactly when `needs_quality` names its source. Looks at no number, so it does not wait for the device.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise ValueError(f"embeddings have shape {tuple(embeddings.shape)}: expected (rows, {dim})")
    rows = len(embeddings)
    if labels.numel() != rows:
        raise ValueError(f"{rows} embeddings but {labels.numel()} labels")
    if rows == 0 or rows % views:
        raise ValueError(
            f"a batch of {rows} rows is not made of pairs: expected B originals, then their B degraded views"
        )
    if needs_keys and (keys is None or keys.shape != embeddings.shape):
        given = "none" if keys is None else f"keys of shape {tuple(keys.shape)}"
        raise ValueError(f"queue='momentum' needs keys of shape {tuple(embeddings.shape)}, got {given}")
    if keys is not None and not needs_keys:
        raise ValueError("keys were given, but only queue='momentum' takes them")
    if needs_quality and (quality is None or quality.shape != (rows,)):
        given = "none" if quality is None else f"some of shape {tuple(quality.shape)}"
        raise ValueError(f"quality={needs_quality!r} needs quality, one number for each of {rows} rows, got {given}")
    if quality is not None and not needs_quality:
        raise ValueError("quality was given, but the configured source of quality needs none")


def labels_fit(labels: Tensor, *, num_classes: int, views: int) -> Tensor:
    """() bool, not yet read from the device: labels (rows,) in [0, num_classes), the same in all `views` views."""
    rows = len(labels) // views
    inside = (labels >= 0) & (labels < num_classes)
    return inside.all() & (labels[:rows] == labels[-rows:]).all()


def complain_about(labels: Tensor, num_classes: int) -> None:
    """Raise the ValueError that says why `labels_fit` is False."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        raise ValueError(f"labels run from {lowest} to {highest}: expected [0, {num_classes})")
    raise ValueError("labels of rows 0..B-1 and B..2B-1 differ: both views of an image must stand B rows apart")


def all_finite(*tensors: Tensor | None) -> Tensor:
    """() bool, not yet read from the device: every number of every tensor is finite; None has none."""
    return torch.stack([tensor.isfinite().all() for tensor in tensors if tensor is not None]).all()


def places(*masks: Tensor) -> list[Tensor]:
    """Ascending places where each mask (N,) is True; waits for the device once, and not at all without masks."""
    if not masks:
        return []
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [(~mask).byte().argsort(stable=True)[:count] for mask, count in zip(masks, counts, strict=True)]

"""Pooling of several embeddings of one person into one: photographs, or frames of a video. d = size of an embedding."""

from __future__ import annotations

import numpy as np

from ..utils.errors import ConfigError, DataError
from .quality_calibration import QualityCalibration

HOW = ("mean", "norm", "quality")
LEAST = 0.5  # percent that a face counts at least under "quality", so that a template is never without weight


def pool(
    embeddings: np.ndarray,
    norms: np.ndarray | None = None,
    how: str = "mean",
    calibration: QualityCalibration | None = None,
) -> np.ndarray:
    """One unit embedding of several of the same person: the weighted mean of the unit embeddings, normalised.

    Args:
        embeddings: (N, d), of any length; rows are brought to unit length first.
        norms: (N,) norms of the raw features, the quality; not needed for "mean".
        how: "mean", all count alike; "norm", weighted by `norms`: for embeddings of the images as they are this is the
            mean of the raw features; "quality", by the share of the calibration's reference with a lower norm, half a
            percent at least.
        calibration: of this model's norms, for "quality".

    Returns:
        (d,) float64 of unit length.

    Raises:
        ConfigError: another `how`, or what it needs is not given.
        DataError: shapes that do not fit, numbers that are not finite, a row or a sum without length.

    Example:
        >>> pool(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([3.0, 4.0]), "norm").tolist()
        [0.6, 0.8]
    """
    groups = np.zeros(len(embeddings), dtype=np.int64)
    return pool_groups(embeddings, groups, norms, how, calibration)[1][0]


def pool_groups(
    embeddings: np.ndarray,
    groups: np.ndarray,
    norms: np.ndarray | None = None,
    how: str = "mean",
    calibration: QualityCalibration | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`pool` of each group of rows.

    Args:
        embeddings, norms, how, calibration: as `pool` has them.
        groups: (N,) whose embedding each row is: numbers or text.

    Returns:
        The G groups in ascending order, (G,), and their unit embeddings, (G, d) float64.

    Raises:
        ConfigError, DataError: as `pool`.

    Example:
        >>> ids, faces = pool_groups(np.eye(3)[[0, 1, 0]], np.array(["Ann", "Bob", "Ann"]))
        >>> ids.tolist(), faces.tolist()
        (['Ann', 'Bob'], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    """
    embeddings, groups = np.asarray(embeddings, dtype=np.float64), np.asarray(groups)
    if embeddings.ndim != 2 or len(embeddings) == 0 or groups.shape != embeddings.shape[:1]:
        raise DataError(f"embeddings are {embeddings.shape} and groups {groups.shape}: (N, d) and (N,), N at least 1")
    lengths = np.linalg.norm(embeddings, axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise DataError(f"embedding {np.flatnonzero(~(lengths > 0) | np.isinf(lengths))[0]} has no finite length")
    weights = weights_of(len(embeddings), norms, how, calibration)
    ids, rows = np.unique(groups, return_inverse=True)
    order = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[order], np.arange(len(ids)))
    sums = segment_sums(embeddings * (weights / lengths)[:, None], order, starts)
    size = np.linalg.norm(sums, axis=1)
    if not size.all():
        raise DataError(f"the embeddings of {ids[size == 0][0]} cancel each other out: they have no mean direction")
    return ids, sums / size[:, None]


def weights_of(
    rows: int, norms: np.ndarray | None, how: str, calibration: QualityCalibration | None = None
) -> np.ndarray:
    """What each of `rows` unit embeddings counts, (rows,) float64 above 0; see `pool`."""
    if how not in HOW:
        raise ConfigError(f"how is {how!r}: embeddings are pooled by one of {HOW}")
    if how == "mean":
        return np.ones(rows)
    if norms is None:
        raise ConfigError(f"pooling by {how} needs the norms of the raw features")
    norms = np.asarray(norms, dtype=np.float64)
    if norms.shape != (rows,) or not np.isfinite(norms).all() or not (norms > 0).all():
        raise DataError(f"norms are {norms.shape}: they are ({rows},), finite and above 0")
    if how == "norm":
        return norms
    if calibration is None:
        raise ConfigError("pooling by quality needs a calibration of the norms: qgface eval-quality --calibrate")
    return np.maximum(calibration.percentile(norms), LEAST) / 100


def segment_sums(rows: np.ndarray, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of rows[order] from each start to the next, added one after the other, in the type of `rows`."""
    import torch

    indices, weight, offsets = (torch.from_numpy(array) for array in (order, rows, starts))
    return torch.nn.functional.embedding_bag(indices, weight, offsets, mode="sum").numpy()


def unit_rows_(rows: np.ndarray) -> np.ndarray:
    """`rows` (N, d) brought to unit length in place, rounded as their type is; rows of zeros stay."""
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    norms[norms == 0] = 1
    rows /= norms[:, None]
    return rows

"""The global batch: gathered from all ranks, checked, and each row's class found on the rank that owns it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..utils import distributed
from ..utils.errors import DataError
from .functional import SHORTEST


@dataclass(frozen=True)
class BatchSpec:
    """What a rank's batch has to look like, and which classes this rank owns.

    Attributes:
        dim: d, numbers in an embedding.
        views: of each image, 2 or 1; rows are the first views of all images, then their second ones.
        num_classes: n over all ranks.
        class_start: first class of this rank.
        num_local: classes of this rank.
        needs_keys: embeddings of a momentum encoder come with the batch.
        needs_teacher: embeddings that a frozen teacher has of the originals come with the batch.
        taught: the contrast's keys are the teacher's, for both views those of their original.
        needs_quality: the source whose scores come with the batch; None: it measures by itself.
        late: nothing is read of the device: what is wrong with the batch is known one step later.
    """

    dim: int
    views: int
    num_classes: int
    class_start: int = 0
    num_local: int = 0
    needs_keys: bool = False
    needs_quality: str | None = None
    needs_teacher: bool = False
    taught: bool = False
    late: bool = False


@dataclass(frozen=True, eq=False)
class GlobalBatch:
    """Rows of all ranks: [originals of rank 0, 1, ...; degraded views of rank 0, 1, ...], N = 2B x ranks of them.

    Attributes:
        raw: (N, d) embeddings h, at least float32, with gradient.
        unit: (N, d) h / ||h||, with gradient.
        keys: (N, d) unit: of the momentum encoder or the teacher, without gradient, or `unit` itself.
        norms: (N,) z = ||h||, without gradient.
        labels: (N,) in [0, num_classes).
        given: (N,) labels as they came.
        column: (N,) index of each row's class among this rank's centres, -1 where another rank owns it.
        quality: (N,) scores that came with the batch, or None.
        finite: every number that came is, as far as that is known here.
        usable: with `BatchSpec.late` () bool: every number is finite, and the labels fit.
        fits: with `BatchSpec.late` () bool: the labels as they came fit.
        teacher: (B x ranks, d) unit: what the teacher makes of the originals, without gradient, or None.
    """

    raw: Tensor
    unit: Tensor
    keys: Tensor
    norms: Tensor
    labels: Tensor
    column: Tensor
    quality: Tensor | None
    given: Tensor
    finite: bool = True
    usable: Tensor | None = None
    fits: Tensor | None = None
    teacher: Tensor | None = None

    @property
    def rows(self) -> int:
        """N."""
        return len(self.raw)

    @classmethod
    def gather(
        cls,
        embeddings: Tensor,
        labels: Tensor,
        keys: Tensor | None,
        quality: Tensor | None,
        spec: BatchSpec,
        teacher: Tensor | None = None,
    ) -> GlobalBatch:
        """Gather and check this rank's batch; as many rows on every rank.

        An all-gather of each tensor that is given, a reduce-scatter of the embeddings' gradient, one read of the
        device.

        Args:
            embeddings: (views * B, d) raw.
            labels: (views * B,) or (views * B, 1).
            keys: (views * B, d) or None.
            quality: (views * B,) or None.
            spec: what is expected.
            teacher: (B, d) or None.

        Raises:
            ValueError: shapes that do not fit, labels out of range, or views that do not belong together.
        """
        check_batch(embeddings, labels, keys, quality, spec, teacher)
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        raw = distributed.gather_views(embeddings.to(wide), spec.views)
        labels = distributed.gather_views(labels.reshape(-1).long(), spec.views)
        keys = None if keys is None else distributed.gather_views(keys.detach().to(wide), spec.views)
        quality = None if quality is None else distributed.gather_views(quality.detach(), spec.views)
        teacher = None if teacher is None else distributed.gather_views(teacher.detach().to(wide), views=1)
        lengths = raw.norm(dim=1, keepdim=True)
        norms, unit = lengths.detach().squeeze(1), raw / lengths.clamp_min(SHORTEST)
        given, finite, usable, fits = labels, True, None, None
        if spec.late:
            labels, usable, fits = _judged_late(labels, [norms, keys, quality, teacher], spec)
        else:
            sound, finite = torch.stack([labels_fit(labels, spec), all_finite(norms, keys, quality, teacher)]).tolist()
            if not sound:
                complain_about(labels, spec)
        taught = None if teacher is None else normalize(teacher)
        if taught is not None and spec.taught:
            keys = taught.repeat(spec.views, 1)
        return cls(
            raw=raw,
            unit=unit,
            keys=unit if keys is None else normalize(keys),
            norms=norms,
            labels=labels,
            column=_local(labels, spec),
            quality=quality,
            finite=finite,
            usable=usable,
            teacher=taught,
            fits=fits,
            given=given,
        )


def _local(labels: Tensor, spec: BatchSpec) -> Tensor:
    """Index of each class among this rank's centres, -1 where another rank owns it."""
    if spec.num_local == spec.num_classes:
        return labels
    column = labels - spec.class_start
    return torch.where((column >= 0) & (column < spec.num_local), column, -1)


def _judged_late(labels: Tensor, numbers: list[Tensor | None], spec: BatchSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Labels moved into [0, num_classes), so that nothing is looked up where there is nothing; whether labels and
    numbers are sound; and whether the labels fit; () bool each."""
    inside = labels.clamp(0, spec.num_classes - 1)
    fits = (labels.view(spec.views, -1) == inside.view(spec.views, -1)[0]).all()  # inside, and the same in both views
    finite = fits
    for number in numbers:
        if number is not None:
            finite = finite & (number.abs() < math.inf).all()
    return inside, finite, fits


def check_batch(
    embeddings: Tensor,
    labels: Tensor,
    keys: Tensor | None,
    quality: Tensor | None,
    spec: BatchSpec,
    teacher: Tensor | None = None,
) -> None:
    """Check the shapes of one rank's batch; looks at no number, so it does not wait for the device.

    Args:
        embeddings: (rows, dim), rows = views * B.
        labels: (rows,) or (rows, 1).
        keys: (rows, dim) exactly when the spec needs keys.
        quality: (rows,) exactly when the spec needs quality.
        spec: what is expected.
        teacher: (B, dim) exactly when the spec needs the teacher.

    Raises:
        ValueError: names what was expected and what was given.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != spec.dim:
        raise ValueError(f"embeddings have shape {tuple(embeddings.shape)}: expected (rows, {spec.dim})")
    rows = len(embeddings)
    if labels.numel() != rows:
        raise ValueError(f"{rows} embeddings but {labels.numel()} labels")
    if rows == 0 or rows % spec.views:
        raise ValueError(
            f"a batch of {rows} rows is not made of pairs: expected B originals, then their B degraded views"
        )
    if spec.needs_keys and (keys is None or keys.shape != embeddings.shape):
        given = "none" if keys is None else f"keys of shape {tuple(keys.shape)}"
        raise ValueError(f"queue='momentum' needs keys of shape {tuple(embeddings.shape)}, got {given}")
    if keys is not None and not spec.needs_keys:
        raise ValueError("keys were given, but only queue='momentum' takes them")
    if spec.needs_quality and (quality is None or quality.shape != (rows,)):
        given = "none" if quality is None else f"some of shape {tuple(quality.shape)}"
        raise ValueError(
            f"quality={spec.needs_quality!r} needs quality, one number for each of {rows} rows, got {given}"
        )
    if quality is not None and not spec.needs_quality:
        raise ValueError("quality was given, but the configured source of quality needs none")
    images = (rows // spec.views, spec.dim)
    if spec.needs_teacher and (teacher is None or teacher.shape != images):
        given = "none" if teacher is None else f"some of shape {tuple(teacher.shape)}"
        raise ValueError(f"the teacher's embeddings of the originals, of shape {images}, are needed; got {given}")
    if teacher is not None and not spec.needs_teacher:
        raise ValueError("the teacher's embeddings were given, but neither teacher_weight nor queue='teacher' asks")


def labels_fit(labels: Tensor, spec: BatchSpec) -> Tensor:
    """() bool, not yet read from the device: labels (rows,) in [0, num_classes), the same in all views."""
    rows = len(labels) // spec.views
    inside = (labels >= 0) & (labels < spec.num_classes)
    return inside.all() & (labels[:rows] == labels[-rows:]).all()


def complain_about(labels: Tensor, spec: BatchSpec) -> None:
    """Say why `labels_fit` is False.

    Raises:
        ValueError: always.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= spec.num_classes:
        raise DataError(f"labels run from {lowest} to {highest}: expected [0, {spec.num_classes})")
    raise ValueError("labels of rows 0..B-1 and B..2B-1 differ: both views of an image must stand B rows apart")


def all_finite(*tensors: Tensor | None) -> Tensor:
    """() bool, not yet read from the device: every number of every tensor is finite; None has none."""
    return torch.stack([tensor.isfinite().all() for tensor in tensors if tensor is not None]).all()

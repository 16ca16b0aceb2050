"""Margin heads with arcface_torch's contract `margin_loss(logits, labels)`, behind the quality gate (eq. 3).

The heads themselves are in `heads.py`, the sources of quality in `quality.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..config.method import QGFaceConfig
from ..utils import distributed
from ..utils.errors import ConfigError
from ..utils.registry import MARGIN_HEADS, QUALITY_SOURCES
from . import functional as F
from .heads import ClassifiedRows
from .running_stats import RunningQuality, RunningThreshold

CLAMP = 1.0 - 1e-3  # the authors' clamp of every cosine
READ_HERE = frozenset(  # options that are QGFaceMargin's own, not QGPartialFC's
    ("authors", "c", "b", "s", "m", "margin", "classification_gate", "cosine_rule", "straight_through")
    + ("stats_momentum", "stats_start", "sigma_rule", "quality", "margin_quality", "b_quantile")
    + ("curricular_momentum", "magface_norms", "magface_m", "magface_weight")
)


class QGFaceMargin(nn.Module):
    """Quality-gated margin loss: AdaFace by default, another head by `margin=`.

    Two uses. Inside QGPartialFC, which calls `scaled_logits`. Or alone, as `margin_loss` of an untouched partial FC:
    then `attach_to(partial_fc)` sees to it that `observe(norms)` is called with the norms of the gathered embeddings
    before each `forward(logits, labels)`.

    Arguments: s scale, m margin, c slope of eq. 1, b threshold on [0, 1]; further ones are fields of QGFaceConfig.
    Raises ConfigError on a value out of range.
    """

    def __init__(self, s: float = 64.0, m: float = 0.4, c: float = 0.333, b: float = 0.2, **options: Any) -> None:
        super().__init__()
        self.config = QGFaceConfig.from_mapping({"s": s, "m": m, "c": c, "b": b, **options}, where="QGFaceMargin")
        config = self.config
        self.source = QUALITY_SOURCES[config.quality]
        self.quality = self._statistics(config.quality)
        own_norms = config.margin_quality == "norm" and config.quality != "norm"
        self.norm_quality = self._statistics("norm") if own_norms else None
        self.threshold = None
        if config.b_quantile is not None:
            self.threshold = RunningThreshold(config.b_quantile, config.stats_momentum)
        self.head = MARGIN_HEADS[config.margin](config)
        self._zhat: Tensor | None = None

    def _statistics(self, source: str) -> RunningQuality:
        config, limits = self.config, QUALITY_SOURCES[source].limits
        floor = config.sigma_rule == "floor"
        return RunningQuality(config.c, config.stats_momentum, config.stats_start, floor=floor, limits=limits)

    @classmethod
    def from_config(cls, config: QGFaceConfig) -> QGFaceMargin:
        """The margin of checked settings."""
        return cls(**asdict(config))

    @property
    def b(self) -> float | Tensor:
        """The threshold on u: `config.b`, or () where `config.b_quantile` is set."""
        return self.config.b if self.threshold is None else self.threshold.value

    def follow(self, u: Tensor) -> None:
        """Let the threshold follow its quantile of u (P,), of pairs or single views, in training mode."""
        if self.threshold is not None and self.training:
            self.threshold.update(u)

    def gate(self, zhat: Tensor) -> Tensor:
        """Rows that take part in the classification (N,) bool: eq. 3, or all rows where the gate is soft or absent."""
        if self.config.classification_gate != "exact":
            return torch.ones_like(zhat, dtype=torch.bool)
        return F.classification_gate(F.unit_scale(zhat), self.b)

    def target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        """Cosine of the own class after the head's margin, from `cosine` (R,) before it. (R,)

        With `straight_through` its derivative with respect to the cosine is 1 (arcface_torch's ArcFace).
        """
        target = self.head.target(cosine, rows)
        return cosine + (target - cosine).detach() if self.config.straight_through else target

    def scaled_logits(
        self,
        cosine: Tensor,
        column: Tensor,
        zhat: Tensor,
        *,
        norms: Tensor | None = None,
        margin_zhat: Tensor | None = None,
    ) -> Tensor:
        """Logits (N, n) from cosines (N, n): margin on the entry at `column` (N,) (-1: class not here), times s.

        zhat (N,) of the gates; margin_zhat (N,) of the margin where that is another; norms (N,) of the raw embeddings,
        for heads that want them. The rows are the same on every rank, in the same order; n may be 0.
        """
        if self.config.cosine_rule == "clamp":
            cosine = cosine.clamp(-CLAMP, CLAMP)
        own = cosine.new_zeros(len(cosine))
        if cosine.shape[1]:
            own = cosine.gather(1, column.clamp_min(0).unsqueeze(1)).squeeze(1)
        everywhere = None
        if self.head.wants_own_cosine:
            everywhere = distributed.total(own.detach().where(column >= 0, 0.0))
        rows = ClassifiedRows(zhat if margin_zhat is None else margin_zhat, norms, everywhere)
        if self.training:
            self.head.observe(rows)
        others = self.head.others(cosine, rows) if self.head.changes_others else cosine
        logits = F.with_target(others, column, self.target(own, rows), self.config.s)
        if self.config.classification_gate == "sigmoid":
            logits = logits * F.soft_gate(F.unit_scale(zhat), self.b, self.config.s).unsqueeze(1)
        return logits

    def added_loss(self, zhat: Tensor, norms: Tensor | None) -> Tensor | None:
        """What the head adds to each row's cross entropy (N,), or None; arguments as `scaled_logits` has them."""
        return self.head.added_loss(ClassifiedRows(zhat, norms))

    def parts(
        self, zhat: Tensor, margin_zhat: Tensor | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor], float | None]:
        """`scaled_logits` in parts, for those who never hold the whole matrix: factor of each row's cosines (N,), what
        stands in the place of its own class's cosine (N,), and the bound that all cosines are clamped to before. Not
        for heads that need the matrix."""
        scale = torch.full_like(zhat, self.config.s)
        if self.config.classification_gate == "sigmoid":
            scale = scale * F.soft_gate(F.unit_scale(zhat), self.b, self.config.s)
        rows = ClassifiedRows(zhat if margin_zhat is None else margin_zhat)
        if self.training:
            self.head.observe(rows)
        return scale, partial(self.target, rows=rows), CLAMP if self.config.cosine_rule == "clamp" else None

    def attach_to(self, partial_fc: nn.Module) -> RemovableHandle:
        """Observe what an untouched partial FC is called with: embeddings (rows, d) first, as many rows on every rank.

        A forward pre-hook gathers their norms in the order in which PartialFC_V2 gathers the embeddings: all rows of
        rank 0, then of rank 1, ... The handle's `remove` undoes it. Raises ConfigError for a source of quality that is
        not the norm: call `observe` with its numbers.
        """
        if self.config.quality != "norm":
            raise ConfigError(
                f"quality is {self.config.quality!r}: attach_to sees norms only. Call margin.observe(numbers) with one "
                "number for each gathered row before each forward"
            )

        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            norms = inputs[0].detach().float().norm(dim=1)
            self.observe(distributed.gather_views(norms, views=1))

        return partial_fc.register_forward_pre_hook(before)

    def observe(self, norms: Tensor) -> None:
        """Take the norms (N,) of the embeddings behind the next `forward`, or another source's numbers of its rows;
        updates statistics and threshold in training mode."""
        self._zhat = self.quality(norms)
        self.follow(F.unit_scale(self._zhat))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """arcface_torch's contract: cosines (N, n_local), labels (N, 1) or (N,), -1 where the class is elsewhere.

        Rows gated out get logits that give them loss 0 and gradient exactly 0: their own class 0, all others -inf.
        Raises ValueError when `observe` was not called with as many norms, ConfigError for heads and options that need
        QGPartialFC: magface, whose regulariser is added to the loss, and margin_quality = "norm" beside other sources.
        """
        if self.head.wants_norms or self.norm_quality is not None:
            what = f"margin={self.config.margin!r}" if self.head.wants_norms else "margin_quality='norm'"
            raise ConfigError(f"{what} needs the embeddings: use QGFaceMargin inside QGPartialFC, not alone")
        if self._zhat is None or len(self._zhat) != len(logits):
            seen = "none" if self._zhat is None else str(len(self._zhat))
            raise ValueError(
                f"QGFaceMargin got {len(logits)} rows but norms of {seen}: call margin.observe(norms) with the norms "
                "of the gathered raw embeddings before each forward, or margin.attach_to(partial_fc) once"
            )
        zhat, self._zhat, column = self._zhat, None, labels.reshape(-1)
        taking_part = self.gate(zhat).nonzero().squeeze(1)
        scaled = self.scaled_logits(logits[taking_part], column[taking_part], zhat[taking_part])
        closed = torch.full_like(logits, -math.inf).scatter(1, column.clamp_min(0).unsqueeze(1), 0.0)
        closed = closed.where((column >= 0).unsqueeze(1), -math.inf)
        return closed.to(scaled.dtype).index_put((taking_part,), scaled)

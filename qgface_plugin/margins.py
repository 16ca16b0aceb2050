"""Margin heads with arcface_torch's contract `margin_loss(logits, labels)`, behind the quality gate (eqs. 3, 6-10)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from . import distributed
from . import functional as F
from .config import QGFaceConfig
from .quality import RunningQuality

CLAMP = 1.0 - 1e-3  # the authors' clamp of every cosine
READ_HERE = frozenset(  # options that are QGFaceMargin's own, not QGPartialFC's
    ("authors", "c", "b", "s", "m", "margin", "classification_gate", "cosine_rule", "straight_through")
    + ("stats_momentum", "stats_start", "sigma_rule")
)


def target_cosine(cosine: Tensor, zhat: Tensor, config: QGFaceConfig) -> Tensor:
    """Cosine of the own class after the margin named by `config.margin`. cosine, zhat (N,) -> (N,).

    With `straight_through` its derivative with respect to the cosine is 1 (arcface_torch's ArcFace).
    """
    match config.margin:
        case "adaface":
            target = F.adaface_target(cosine, zhat, config.m)
        case "arcface":
            target = F.arcface_target(cosine, config.m)
        case "cosface":
            target = F.cosface_target(cosine, config.m)
        case _:
            target = cosine
    return cosine + (target - cosine).detach() if config.straight_through else target


class QGFaceMargin(nn.Module):
    """Quality-gated margin loss: AdaFace by default, ArcFace, CosFace or plain softmax by `margin=`.

    Two uses. Inside QGPartialFC, which calls `scaled_logits`. Or alone, as `margin_loss` of an untouched partial FC:
    then `attach_to(partial_fc)` sees to it that `observe(norms)` is called with the norms of the gathered embeddings
    before each `forward(logits, labels)`.

    Arguments: s scale, m margin, c slope of eq. 1, b threshold on [0, 1]; further ones are fields of QGFaceConfig.
    Raises ConfigError on a value out of range.
    """

    def __init__(self, s: float = 64.0, m: float = 0.4, c: float = 0.333, b: float = 0.2, **options: Any) -> None:
        super().__init__()
        self.config = QGFaceConfig.from_mapping({"s": s, "m": m, "c": c, "b": b, **options}, where="QGFaceMargin")
        self.quality = RunningQuality(
            self.config.c, self.config.stats_momentum, self.config.stats_start, floor=self.config.sigma_rule == "floor"
        )
        self._zhat: Tensor | None = None

    @classmethod
    def from_config(cls, config: QGFaceConfig) -> QGFaceMargin:
        """The margin of checked settings."""
        return cls(**asdict(config))

    def gate(self, zhat: Tensor) -> Tensor:
        """Rows that take part in the classification (N,) bool: eq. 3, or all rows where the gate is soft or absent."""
        if self.config.classification_gate != "exact":
            return torch.ones_like(zhat, dtype=torch.bool)
        return F.classification_gate(F.unit_scale(zhat), self.config.b)

    def scaled_logits(self, cosine: Tensor, column: Tensor, zhat: Tensor) -> Tensor:
        """Logits (N, n) from cosines (N, n): margin on the entry at `column` (N,) (-1: class not here), times s."""
        if self.config.cosine_rule == "clamp":
            cosine = cosine.clamp(-CLAMP, CLAMP)
        own = cosine.gather(1, column.clamp_min(0).unsqueeze(1)).squeeze(1)
        logits = F.with_target(cosine, column, target_cosine(own, zhat, self.config), self.config.s)
        if self.config.classification_gate == "sigmoid":
            logits = logits * F.soft_gate(F.unit_scale(zhat), self.config.b, self.config.s).unsqueeze(1)
        return logits

    def parts(self, zhat: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor], float | None]:
        """`scaled_logits` in parts, for those who never hold the whole matrix: factor of each row's cosines (N,), what
        stands in the place of its own class's cosine (N,), and the bound that all cosines are clamped to before."""
        scale = torch.full_like(zhat, self.config.s)
        if self.config.classification_gate == "sigmoid":
            scale = scale * F.soft_gate(F.unit_scale(zhat), self.config.b, self.config.s)
        bound = CLAMP if self.config.cosine_rule == "clamp" else None
        return scale, partial(target_cosine, zhat=zhat, config=self.config), bound

    def attach_to(self, partial_fc: nn.Module) -> RemovableHandle:
        """Observe what an untouched partial FC is called with: embeddings (rows, d) first, as many rows on every rank.

        A forward pre-hook gathers their norms in the order in which PartialFC_V2 gathers the embeddings: all rows of
        rank 0, then of rank 1, ... The handle's `remove` undoes it.
        """

        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            norms = inputs[0].detach().float().norm(dim=1)
            self.observe(distributed.gather_views(norms, views=1))

        return partial_fc.register_forward_pre_hook(before)

    def observe(self, norms: Tensor) -> None:
        """Take the norms (N,) of the embeddings behind the next `forward`; updates the statistics in training mode."""
        self._zhat = self.quality(norms)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """arcface_torch's contract: cosines (N, n_local), labels (N, 1) or (N,), -1 where the class is elsewhere.

        Rows gated out get logits that give them loss 0 and gradient exactly 0: their own class 0, all others -inf.
        Raises ValueError when `observe` was not called with as many norms.
        """
        if self._zhat is None or len(self._zhat) != len(logits):
            seen = "none" if self._zhat is None else str(len(self._zhat))
            raise ValueError(
                f"QGFaceMargin got {len(logits)} rows but norms of {seen}: call margin.observe(norms) with the norms "
                "of the gathered raw embeddings before each forward, or margin.attach_to(partial_fc) once"
            )
        zhat, self._zhat, column = self._zhat, None, labels.reshape(-1)
        scaled = self.scaled_logits(logits, column, zhat)
        closed = torch.full_like(scaled, -math.inf).scatter(1, column.clamp_min(0).unsqueeze(1), 0.0)
        closed = closed.where((column >= 0).unsqueeze(1), -math.inf)
        return torch.where(self.gate(zhat).unsqueeze(1), scaled, closed)

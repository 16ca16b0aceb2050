"""Margins with arcface_torch's contract `margin_loss(logits, labels)`, behind the quality gate (eqs. 1, 3, 6-10).

A margin is written once, as a `Rule`. Three callers follow it: `class_softmax.class_logsumexp`, which never holds the
logits of all classes; `apply_rule` on a whole matrix of cosines, for heads that need one; and `QGFaceMargin.forward`,
which is the gate and `apply_rule`. The heads are in `heads.py`, the sources of quality in `quality.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

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


class Rule(NamedTuple):
    """What a margin makes of the cosines of R rows: logits = scale x (target on the own class, others elsewhere).

    Attributes:
        scale: (R,) factor of the cosines of each row, without gradient.
        target: cosines (R,) to the own class centres -> what stands in their place, (R,).
        bound: all cosines are clamped to +-bound before anything else; None: they are not.
        others: cosines (R, n) -> those of the other classes, (R, n); None: as they are.
        with_slope: cosines (R,) to the own class centres -> `target` and its derivative, (R,) each, without gradient;
            None: autograd finds the derivative.
    """

    scale: Tensor
    target: Callable[[Tensor], Tensor]
    bound: float | None = None
    others: Callable[[Tensor], Tensor] | None = None
    with_slope: Callable[[Tensor], tuple[Tensor, Tensor] | None] | None = None


def own_cosines(cosine: Tensor, column: Tensor) -> Tensor:
    """The entries (R,) of cosines (R, n) at `column` (R,), whatever where it is -1; n may be 0."""
    if not cosine.shape[1]:
        return cosine.new_zeros(len(cosine))
    return cosine.gather(1, column.clamp_min(0).unsqueeze(1)).squeeze(1)


def apply_rule(rule: Rule, cosine: Tensor, column: Tensor) -> Tensor:
    """Logits of a whole matrix of cosines.

    Args:
        rule: the margin of these rows.
        cosine: (R, n) to this rank's class centres; n may be 0.
        column: (R,) index of each row's class among them, -1 where it is not here.

    Returns:
        (R, n); gradients reach `cosine`.
    """
    if rule.bound is not None:
        cosine = cosine.clamp(-rule.bound, rule.bound)
    target = rule.target(own_cosines(cosine, column))
    others = cosine if rule.others is None else rule.others(cosine)
    return F.with_target(others, column, target, rule.scale.to(cosine.dtype))


class QGFaceMargin(nn.Module):
    """A margin behind the quality gate: AdaFace by default, another head by `margin=`.

    Two uses. Inside QGPartialFC, which asks for its `rule`. Or alone, as `margin_loss` of an untouched partial FC:
    then `attach_to(partial_fc)` sees to it that `observe(norms)` is called with the norms of the gathered embeddings
    before each `forward(logits, labels)`.

    Args:
        s: scale of the cosines, above 0.
        m: margin; cosine for adaface and cosface, radians for arcface and curricularface.
        c: slope of eq. 1.
        b: threshold on u, in [0, 1].
        options: further fields of QGFaceConfig.

    Raises:
        ConfigError: a setting that is unknown or out of range.

    Example:
        >>> margin = QGFaceMargin(b=0.45)
        >>> margin.observe(torch.tensor([16.0, 24.0]))  # norms of a blurred and of a sharp face
        >>> margin(torch.tensor([[0.5, 0.1], [0.5, 0.1]]), torch.tensor([0, 0]))  # AdaFace for the sharp one only
        tensor([[0.0000,   -inf],
                [5.4429, 6.4000]])
    """

    def __init__(self, s: float = 64.0, m: float = 0.4, c: float = 0.333, b: float = 0.2, **options: Any) -> None:
        super().__init__()
        self.config = QGFaceConfig.from_mapping({"s": s, "m": m, "c": c, "b": b, **options}, where="QGFaceMargin")
        config = self.config
        self.source = QUALITY_SOURCES[config.quality]
        self.quality = self._statistics(config.quality)
        norms_too = config.margin_quality == "norm" and config.quality != "norm"
        self.norm_quality = self._statistics("norm") if norms_too else None
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

    @classmethod
    def arcface_torch(
        cls, margin_list: Sequence[float] = (1.0, 0.5, 0.0), s: float = 64.0, **options: Any
    ) -> QGFaceMargin:
        """arcface_torch's CombinedMarginLoss, value and gradient, for all rows: `classification_gate` is "none".

        Its ArcFace is not differentiated through the margin: the derivative of the target logit is s
        (`straight_through`), where the paper's is s sin(theta + m) / sin(theta), which `margin="arcface"` alone has.
        One thing is not its own: an angle that the margin takes beyond pi stays at pi, where arcface_torch's target
        rises again.

        Args:
            margin_list: (m1, m2, m3) as in its configs: (1, m, 0) is ArcFace with m radians, (1, 0, m) CosFace.
            s: scale.
            options: further fields of QGFaceConfig; `classification_gate="exact"` puts QGFace's gate before it.

        Raises:
            ConfigError: margins that arcface_torch has no loss for: m1 is not 1, or both m2 and m3 are above 0.

        Example:
            >>> config = QGFaceMargin.arcface_torch((1.0, 0.5, 0.0)).config
            >>> config.margin, config.m, config.straight_through, config.classification_gate
            ('arcface', 0.5, True, 'none')
            >>> QGFaceMargin.arcface_torch((1.0, 0.0, 0.4)).config.margin
            'cosface'
        """
        m1, m2, m3 = margin_list
        if m1 != 1.0 or m2 < 0.0 or m3 < 0.0 or (m2 and m3):
            raise ConfigError(
                f"QGFaceMargin.arcface_torch: margin_list is {tuple(margin_list)}: it must be (1, m, 0) for ArcFace or "
                "(1, 0, m) for CosFace"
            )
        name, m = ("cosface", m3) if m3 else ("arcface", m2)
        given = {"margin": name, "straight_through": name == "arcface", "classification_gate": "none", **options}
        return cls(s=s, m=m, **given)

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
        return self.gate_of(F.unit_scale(zhat))

    def gate_of(self, u: Tensor) -> Tensor:
        """`gate`, from u (N,) in [0, 1]."""
        if self.config.classification_gate != "exact":
            return torch.ones_like(u, dtype=torch.bool)
        return F.classification_gate(u, self.b)

    def rule(self, rows: ClassifiedRows) -> Rule:
        """The margin of these rows as a value (eqs. 6-10); in training mode the head observes them first.

        Args:
            rows: the same on every rank, in the same order, with all that the head wants.
        """
        config, head = self.config, self.head
        if self.training:
            head.observe(rows)
        scale = torch.full_like(rows.zhat, config.s)
        if config.classification_gate == "sigmoid":
            zhat = rows.zhat if rows.gate_zhat is None else rows.gate_zhat
            scale = scale * F.soft_gate(F.unit_scale(zhat), self.b, config.s)  # eq. 3 in the authors' code
        return Rule(
            scale,
            target=partial(self._target, rows=rows),
            bound=CLAMP if config.cosine_rule == "clamp" else None,
            others=partial(head.others, rows=rows) if head.changes_others else None,
            with_slope=partial(self._target_and_slope, rows=rows),
        )

    def _target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        """The head's target (R,); `straight_through`: its derivative by the cosine is 1 (arcface_torch's ArcFace)."""
        target = self.head.target(cosine, rows)
        return cosine + (target - cosine).detach() if self.config.straight_through else target

    def _target_and_slope(self, cosine: Tensor, rows: ClassifiedRows) -> tuple[Tensor, Tensor] | None:
        """`_target` and its derivative; None where the head leaves that to autograd."""
        if self.config.straight_through:
            return self.head.target(cosine.detach(), rows), torch.ones_like(cosine)
        return self.head.target_and_slope(cosine, rows)

    def with_own_cosine(self, rows: ClassifiedRows, cosine: Tensor, column: Tensor) -> ClassifiedRows:
        """The rows with `own_cosine` where the head wants it, from cosines (R, n) and column (R,) as `apply_rule` takes
        them. One all-reduce of (R,) then."""
        if not self.head.wants_own_cosine:
            return rows
        own = own_cosines(cosine.detach(), column)
        own = own.clamp(-CLAMP, CLAMP) if self.config.cosine_rule == "clamp" else own
        return rows._replace(own_cosine=distributed.total(own.where(column >= 0, 0.0)))

    def attach_to(self, partial_fc: nn.Module) -> RemovableHandle:
        """Observe what an untouched partial FC is called with: embeddings (rows, d) first, as many rows on every rank.

        A forward pre-hook gathers their norms in the order in which PartialFC_V2 gathers the embeddings: all rows of
        rank 0, then of rank 1, ...

        Returns:
            A handle whose `remove` undoes it.

        Raises:
            ConfigError: the source of quality is not the norm: call `observe` with its scores.
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
        """Take the norms (N,) of the embeddings behind the next `forward`, or another source's scores of its rows.

        Updates statistics and threshold in training mode.
        """
        self._zhat = self.quality(norms)  # eq. 1
        self.follow(F.unit_scale(self._zhat))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """arcface_torch's contract: the logits of a partial FC after gate and margin.

        Args:
            logits: (N, n_local) cosines.
            labels: (N, 1) or (N,), index of the class among the columns, -1 where it is elsewhere.

        Returns:
            (N, n_local). Rows gated out get logits that give them loss 0 and gradient exactly 0: their own class 0, all
            others -inf. Gradients reach `logits`.

        Raises:
            ValueError: `observe` was not called with as many norms.
            ConfigError: a head or an option that needs QGPartialFC: magface, whose regulariser is added to the loss,
                and margin_quality = "norm" beside other sources.
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
        taking_part = self.gate(zhat).nonzero().squeeze(1)  # eq. 3
        cosine, own = logits[taking_part], column[taking_part]
        rows = self.with_own_cosine(ClassifiedRows(zhat[taking_part]), cosine, own)
        open_rows = apply_rule(self.rule(rows), cosine, own)  # eqs. 6-10
        closed = torch.full_like(logits, -math.inf).scatter(1, column.clamp_min(0).unsqueeze(1), 0.0)
        closed = closed.where((column >= 0).unsqueeze(1), -math.inf)
        return closed.to(open_rows.dtype).index_put((taking_part,), open_rows)

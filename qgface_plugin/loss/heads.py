"""Margin heads: what becomes of the cosines of the rows that are classified, before the scale s (eqs. 6-10).

A custom head is a class in one file, `@margin_head("name")` above it, imported by the recipe; `config.qgface.margin`
then names it. It works with sharded and sampled class centres, since all that a row needs of other ranks is in
`ClassifiedRows`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..utils.registry import MARGIN_HEADS
from . import functional as F

if TYPE_CHECKING:
    from ..config.method import QGFaceConfig

Head = TypeVar("Head", bound="type[MarginHead]")


class ClassifiedRows(NamedTuple):
    """What a head may use of the R rows that are classified; the same on every rank, in the same order.

    Attributes:
        zhat: (R,) quality in [-1, 1] that the margin follows, without gradient.
        norms: (R,) of the raw embeddings, WITH gradient; None unless the head has `wants_norms`.
        own_cosine: (R,) to the own class centre, without gradient; None unless the head has `wants_own_cosine`.
        gate_zhat: (R,) quality that the gates follow where that is another than `zhat`, else None.
        part: (R,) bool, which rows count, where others are among them (only for a head with `by_row`); None: all.
    """

    zhat: Tensor
    norms: Tensor | None = None
    own_cosine: Tensor | None = None
    gate_zhat: Tensor | None = None
    part: Tensor | None = None


class MarginHead(nn.Module):
    """The identity: plain softmax. Subclasses change the target, the other classes' cosines, or add to the loss.

    A head may keep buffers; they are saved with the criterion. `rows.zhat` is the only statistic that it need not
    compute itself.

    Args:
        config: the settings; `config.m` is the margin.

    Attributes:
        wants_norms: `rows.norms` is given.
        wants_own_cosine: `rows.own_cosine` is given, which costs an all-reduce of (R,) numbers.
        changes_others: `others` is called.
        by_row: what is made of a row depends on no other row, and `observe` leaves out the rows that `rows.part` leaves
            out. A class says so itself, it does not inherit it; without it a GPU has to wait, once a step, for the list
            of the rows that are classified.

    Example:
        >>> from qgface_plugin import QGFaceConfig
        >>> rows = ClassifiedRows(zhat=torch.tensor([-1.0, 1.0]))
        >>> MarginHead(QGFaceConfig(m=0.4)).target(torch.tensor([0.5, 0.5]), rows)
        tensor([0.5000, 0.5000])
        >>> CosFace(QGFaceConfig(m=0.4)).target(torch.tensor([0.5, 0.5]), rows)
        tensor([0.1000, 0.1000])
    """

    wants_norms = False
    wants_own_cosine = False
    changes_others = False
    by_row = False

    def __init__(self, config: QGFaceConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def needs_matrix(self) -> bool:
        """Whether the logits have to be held as a matrix (R, n); else the classes are scored a chunk at a time."""
        return self.changes_others or self.wants_norms or self.wants_own_cosine

    @property
    def row_by_row(self) -> bool:
        """`by_row`, where this very class says it."""
        return bool(vars(type(self)).get("by_row", False))

    def observe(self, rows: ClassifiedRows) -> None:
        """Move what the head keeps; called once per step in training mode, before the other methods."""

    def target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        """Cosine of the own class after the margin, from `cosine` (R,) before it. (R,)"""
        return cosine

    def target_and_slope(self, cosine: Tensor, rows: ClassifiedRows) -> tuple[Tensor, Tensor] | None:
        """`target` and its derivative by the cosine, (R,) each, no gradient; None: autograd finds the derivative, which
        takes twice as many operations."""
        return None

    def others(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        """Cosines (R, n) of this rank's classes; each row's own class may be among them and is overwritten later."""
        return cosine

    def added_loss(self, rows: ClassifiedRows) -> Tensor | None:
        """What is added to the cross entropy of each row, (R,), or None."""
        return None


def margin_head(name: str) -> Callable[[Head], Head]:
    """A class decorator: makes a MarginHead known as `config.qgface.margin = name`.

    Raises:
        ValueError: the name is one of the project's own heads.

    Example:
        >>> @margin_head("halved")
        ... class Halved(MarginHead):
        ...     def target(self, cosine, rows):
        ...         return cosine - self.config.m / 2
        >>> MARGIN_HEADS.pop("halved").__name__  # a recipe leaves it there
        'Halved'
    """

    def register(head: Head) -> Head:
        return MARGIN_HEADS.add(name, head)

    return register


# --- AdaFace (Kim et al., CVPR 2022), eqs. 6-10 of QGFace: cos(theta_y - m zhat) - (m zhat + m) -----------------------


@margin_head("adaface")
class AdaFace(MarginHead):
    """The margin grows with the quality of the row."""

    by_row = True

    def target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        return F.adaface_target(cosine, rows.zhat, self.config.m)  # eqs. 6-10

    def target_and_slope(self, cosine: Tensor, rows: ClassifiedRows) -> tuple[Tensor, Tensor]:
        shift = -self.config.m * rows.zhat
        shifted, slope = F.shifted_cosine_with_slope(cosine, shift)
        return shifted + (shift - self.config.m), slope  # eqs. 6-10 and 12


# --- ArcFace (Deng et al., CVPR 2019), eq. 3: cos(theta_y + m) --------------------------------------------------------


@margin_head("arcface")
class ArcFace(MarginHead):
    """An additive angle, the same for every row; m in radians."""

    by_row = True

    def target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        return F.arcface_target(cosine, self.config.m)

    def target_and_slope(self, cosine: Tensor, rows: ClassifiedRows) -> tuple[Tensor, Tensor]:
        return F.shifted_cosine_with_slope(cosine, self.config.m)


# --- CosFace (Wang et al., CVPR 2018), eq. 4: cos(theta_y) - m --------------------------------------------------------


@margin_head("cosface")
class CosFace(MarginHead):
    """An additive cosine, the same for every row."""

    by_row = True

    def target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        return F.cosface_target(cosine, self.config.m)

    def target_and_slope(self, cosine: Tensor, rows: ClassifiedRows) -> tuple[Tensor, Tensor]:
        return self.target(cosine.detach(), rows), torch.ones_like(cosine)


# --- CurricularFace (Huang et al., "CurricularFace: Adaptive Curriculum Learning Loss", CVPR 2020), section 3 ---------
# The target is ArcFace's, T = cos(theta_y + m). A negative is hard when cos(theta_j) > T; its cosine becomes
# cos(theta_j) (t + cos(theta_j)). t starts at 0 and follows the mean cosine to the own class, so hard negatives weigh
# little at first and much later.


def reweighted(cosine: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """N(t, cos theta_j): hard negatives re-weighted. cosine (R, n); target (R,) after the margin; t ()."""
    return torch.where(cosine > target.unsqueeze(1), cosine * (t + cosine), cosine)


@margin_head("curricularface")
class CurricularFace(MarginHead):
    """t <- (1 - a) t + a mean(cos theta_y) over the rows that are classified, before it is used.

    a is `config.curricular_momentum`. t is the same on every rank and is saved.
    """

    wants_own_cosine = changes_others = by_row = True
    t: Tensor

    def __init__(self, config: QGFaceConfig) -> None:
        super().__init__(config)
        self.register_buffer("t", torch.zeros(()))

    @torch.no_grad()
    def observe(self, rows: ClassifiedRows) -> None:
        assert rows.own_cosine is not None  # which this head wants
        if rows.part is None and len(rows.own_cosine):
            self.t.lerp_(rows.own_cosine.mean().to(self.t.dtype), self.config.curricular_momentum)
        elif rows.part is not None:
            count, total = rows.part.sum(), rows.own_cosine.where(rows.part, 0.0).sum()
            moved = self.t.lerp((total / count).to(self.t.dtype), self.config.curricular_momentum)
            self.t.copy_(torch.where(count > 0, moved, self.t))

    def target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        return F.arcface_target(cosine, self.config.m)

    def others(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        assert rows.own_cosine is not None
        target = F.arcface_target(rows.own_cosine, self.config.m)
        return reweighted(cosine, target, self.t.clone())  # autograd keeps it until the backward pass


# --- MagFace (Meng et al., "MagFace: A Universal Representation for Face Recognition ...", CVPR 2021), section 3 ------
# The margin grows with the norm a of the raw embedding and a regulariser rewards large norms, so that norms come to
# tell quality: the target is cos(theta_y + m(a)), and lambda_g g(a) is added to the loss of each row.
# m(a) is linear from m_low at a_low to m_high at a_high, g(a) = 1 / a + a / a_high^2, a clipped to [a_low, a_high].


def magnitude_margin(norms: Tensor, norm_range: tuple[float, float], margins: tuple[float, float]) -> Tensor:
    """m(a) in radians for norms (R,) within `norm_range`."""
    (a_low, a_high), (m_low, m_high) = norm_range, margins
    return (norms - a_low) * ((m_high - m_low) / (a_high - a_low)) + m_low


def magnitude_regulariser(norms: Tensor, a_high: float) -> Tensor:
    """g(a) = 1 / a + a / a_high^2, (R,); it falls up to a = a_high."""
    return 1.0 / norms + norms / a_high**2


@margin_head("magface")
class MagFace(MarginHead):
    """Gradients reach the norms through m(a) and g(a). `config.m` is not used; see `config.magface_*`."""

    wants_norms = by_row = True

    def target(self, cosine: Tensor, rows: ClassifiedRows) -> Tensor:
        config = self.config
        return F.arcface_target(cosine, magnitude_margin(self._clipped(rows), config.magface_norms, config.magface_m))

    def added_loss(self, rows: ClassifiedRows) -> Tensor:
        g = magnitude_regulariser(self._clipped(rows), self.config.magface_norms[1])
        return self.config.magface_weight * g

    def _clipped(self, rows: ClassifiedRows) -> Tensor:
        assert rows.norms is not None  # which this head wants
        return rows.norms.clamp(*self.config.magface_norms)


# --- No margin: the normalised softmax (Wang et al., "NormFace", ACM MM 2017): the target is cos(theta_y) itself ------


@margin_head("softmax")
class Softmax(MarginHead):
    """The cosines as they are."""

    by_row = True

    def target_and_slope(self, cosine: Tensor, rows: ClassifiedRows) -> tuple[Tensor, Tensor]:
        return self.target(cosine.detach(), rows), torch.ones_like(cosine)


MARGIN_HEADS.freeze()

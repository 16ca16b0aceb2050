"""What a margin head is: what becomes of the cosines of the rows that are classified, before the scale s.

An own head is a class in one file, `@margin_head("name")` above it, imported by the recipe; `config.qgface.margin`
then names it. It works with sharded and sampled class centres, since all that a row needs of other ranks is in `Rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from torch import Tensor, nn

from ..utils.registry import MARGIN_HEADS

if TYPE_CHECKING:
    from ..config.method import QGFaceConfig

Head = TypeVar("Head", bound="type[MarginHead]")


class Rows(NamedTuple):
    """What a head may use of R rows; the same on every rank.

    zhat (R,) quality in [-1, 1], without gradient; norms (R,) of the raw embeddings, WITH gradient, None unless the
    head has `wants_norms`; own_cosine (R,) to the own class centre, without gradient, None unless `wants_own_cosine`.
    """

    zhat: Tensor
    norms: Tensor | None = None
    own_cosine: Tensor | None = None


class MarginHead(nn.Module):
    """The identity: plain softmax. Subclasses change the target, the other classes' cosines, or add to the loss.

    A head may keep buffers; they are saved with the criterion. `rows.zhat` is the only statistic that it needs not
    compute itself.
    """

    wants_norms = False
    wants_own_cosine = False  # costs an all-reduce of (R,) numbers
    changes_others = False  # `others` is called only where this is True

    def __init__(self, config: QGFaceConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def needs_matrix(self) -> bool:
        """Whether the logits have to be held as a matrix (R, n); else the classes are scored a chunk at a time."""
        return self.changes_others or self.wants_norms or self.wants_own_cosine

    def observe(self, rows: Rows) -> None:
        """Called once a step in training mode, before the others: move what the head keeps."""

    def target(self, cosine: Tensor, rows: Rows) -> Tensor:
        """Cosine of the own class after the margin, from `cosine` (R,) before it. (R,)"""
        return cosine

    def others(self, cosine: Tensor, rows: Rows) -> Tensor:
        """Cosines (R, n) of this rank's classes; each row's own class may be among them and is overwritten later."""
        return cosine

    def added_loss(self, rows: Rows) -> Tensor | None:
        """What is added to each row's cross entropy, (R,), or None."""
        return None


def margin_head(name: str) -> Callable[[Head], Head]:
    """A class decorator: makes a MarginHead known as `config.qgface.margin = name`.

    Raises:
        ValueError: the name is one of the project's own heads.
    """

    def register(head: Head) -> Head:
        return MARGIN_HEADS.add(name, head)

    return register

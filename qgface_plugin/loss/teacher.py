"""Pull to a frozen teacher: both views of an image towards what the starting encoder makes of its original.

A term of the loss beside eq. 5 (`teacher_weight`). It needs no labels, and what it learns by keeps a gallery valid that
was enrolled with the teacher: a degraded probe of the student meets the teacher's embedding of the original.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pull(unit: Tensor, teacher: Tensor, column: Tensor) -> Tensor:
    """mean over images of: sum over their views v of 1 - cos(student(v), teacher(original)).

    The gradient of a row is taken on the rank that owns its class, so that over the ranks each is counted once (see
    `utils.distributed`); the value is that of the whole batch on every rank. No collective.

    Args:
        unit: (views B, d) unit vectors of the student, originals first; the gradient reaches them.
        teacher: (B, d) unit vectors of the originals; no gradient.
        column: (views B,) index of each row's class among this rank's, -1 where another rank owns it.

    Returns:
        () in [0, 2 views].

    Example:
        >>> student, teacher = torch.eye(2), torch.tensor([[1.0, 0.0]])  # the original agrees, its copy does not
        >>> pull(student, teacher, torch.tensor([0, 0]))
        tensor(1.)
    """
    cosine = cosines(unit, teacher)
    cosine = torch.where(column >= 0, cosine, cosine.detach())
    return (1.0 - cosine).sum() / len(teacher)


def cosines(unit: Tensor, teacher: Tensor) -> Tensor:
    """cos(student(view), teacher(original)) of each view, (views B,)."""
    return (unit * teacher.detach().repeat(len(unit) // len(teacher), 1)).sum(1)

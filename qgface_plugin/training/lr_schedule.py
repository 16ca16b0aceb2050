"""Learning rate over a run: a factor of the base rate for each step, as pure functions and as a torch scheduler."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import torch

from ..utils.errors import ConfigError

KINDS = ("polynomial", "step")


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Linear warm-up: step / warmup_steps, then 1.

    Step 0 goes with step 1. arcface_torch's scheduler leaves it at the whole base rate, and that one step is enough
    to multiply the norms of the class centres, which start at 0.01 sqrt(d): their directions then hardly learn.
    """
    return max(step, 1) / warmup_steps if step < warmup_steps else 1.0


def polynomial_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Warm-up, then a straight line from 1 at `warmup_steps` to 0 at `total_steps` (arcface_torch, power 1).

    A warm-up that fills the whole run has no line: the factor stays where it was at `total_steps`.

    Example:
        >>> [polynomial_factor(step, warmup_steps=2, total_steps=6) for step in range(1, 7)]
        [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step <= warmup_steps or warmup_steps >= total_steps:
        return warmup_factor(min(step, total_steps), warmup_steps)
    return max(0.0, (total_steps - step) / (total_steps - warmup_steps))


def step_factor(step: int, warmup_steps: int, milestone_steps: Sequence[int], gamma: float) -> float:
    """Warm-up, times gamma for every milestone m with m <= step; the milestones ascend.

    Example:
        >>> [step_factor(step, 0, [2, 4], gamma=0.5) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return warmup_factor(step, warmup_steps) * gamma ** bisect_right(milestone_steps, step)


def build_schedule(
    optimizer: torch.optim.Optimizer,
    kind: str,
    warmup_steps: int,
    total_steps: int,
    milestone_steps: Sequence[int] = (),
    gamma: float = 0.1,
) -> torch.optim.lr_scheduler.LambdaLR:
    """A scheduler for `optimizer`, to be stepped once after every global step; each group keeps its own base rate.

    Args:
        optimizer: its groups have their base rates already.
        kind: "polynomial" or "step".
        warmup_steps, total_steps: in global steps.
        milestone_steps: ascending global steps from which on the rate is divided (kind "step" only).
        gamma: factor at every milestone, above 0.

    Raises:
        ConfigError: naming the value that cannot be used.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
        >>> schedule = build_schedule(optimizer, "polynomial", warmup_steps=4, total_steps=10)
        >>> schedule.get_last_lr()
        [0.05]
    """
    milestones = list(milestone_steps)
    if kind not in KINDS:
        raise ConfigError(f"the schedule kind is {kind!r}: it must be one of {', '.join(map(repr, KINDS))}")
    if total_steps < 1 or warmup_steps < 0:
        raise ConfigError(
            f"the schedule has {total_steps} steps with {warmup_steps} of warm-up: it needs at least one step (is the "
            "data set smaller than one global batch?) and a warm-up of 0 or more"
        )
    if milestones != sorted(milestones) or any(m < 1 for m in milestones):
        raise ConfigError(f"the schedule's milestones are {milestones}: they must be ascending steps of at least 1")
    if not gamma > 0:
        raise ConfigError(f"the schedule's gamma is {gamma}: it must be above 0")

    def factor(step: int) -> float:
        if kind == "polynomial":
            return polynomial_factor(step, warmup_steps, total_steps)
        return step_factor(step, warmup_steps, milestones, gamma)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def move_to(scheduler: torch.optim.lr_scheduler.LambdaLR, step: int) -> None:
    """Set a scheduler of `build_schedule` to where `step` calls of its `step` bring it, to the last bit.

    The rates are those of the scheduler's own base rates, so a recipe with another lr goes on with that.
    """
    scheduler.last_epoch, scheduler._step_count = step, step + 1
    groups = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    for group, base, factor in groups:
        group["lr"] = base * factor(step)
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]

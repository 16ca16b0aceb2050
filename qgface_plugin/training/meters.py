"""Means of a step's terms over the steps between two lines of the log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch


class RunningMeans:
    """Means of named terms, summed where they live; only `take` waits for the device."""

    def __init__(self) -> None:
        self._steps, self._sums, self._counts = 0, {}, {}

    def add(self, terms: Mapping[str, float | torch.Tensor]) -> None:
        """One step's numbers or 0-d tensors; a name may be absent from some steps."""
        self._steps += 1
        for name, value in terms.items():
            value = value.detach().float() if isinstance(value, torch.Tensor) else value
            total = self._sums.get(name, 0.0)
            if isinstance(value, torch.Tensor) and isinstance(total, torch.Tensor):
                total = total.to(value.device)  # a resumed sum comes from a file
            self._sums[name] = total + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def state(self) -> dict[str, Any]:
        """What is summed so far, as plain values; `load` continues from it to the last bit."""
        return {"steps": self._steps, "sums": dict(self._sums), "counts": dict(self._counts)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._steps, self._sums, self._counts = state["steps"], dict(state["sums"]), dict(state["counts"])

    def take(self) -> tuple[int, dict[str, float]]:
        """The number of steps and each name's mean over the steps that had it; then start again."""
        steps, means = self._steps, {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._steps, self._sums, self._counts = 0, {}, {}
        return steps, means


# --- Does the source of quality still tell it? Every pair of views is a free test of it (docs/method.md) --------------


class OrderWatch:
    """Follows the running mean of `quality_order` and says once an epoch when it is upside down.

    `quality_order` is the share of pairs, in [0, 1], whose original view has the better quality by its source, named
    by `quality`; with "norm" it is the larger feature norm. Chance is 0.5.
    """

    def __init__(self, quality: str = "norm", momentum: float = 0.01, grace_steps: int = 100) -> None:
        self.quality, self.momentum, self.grace_steps = quality, momentum, grace_steps
        self.mean: float | None = None
        self._steps, self._warned_epoch = 0, None

    def state(self) -> list[float | int | None]:
        """What it has seen so far, as plain values."""
        return [self.mean, self._steps, self._warned_epoch]

    def load(self, state: Sequence[float | int | None]) -> None:
        """Continue from `state`."""
        self.mean, self._steps, self._warned_epoch = state

    def update(self, order: float, steps: int, epoch: int) -> str | None:
        """Take the mean `quality_order` over the last `steps` steps; the warning's text when it is due, else None.

        The result is that of `steps` single updates with that mean. A mean that is not finite is left out.
        """
        if not math.isfinite(order):
            return None
        kept = (1 - self.momentum) ** steps
        self.mean = order if self.mean is None else kept * self.mean + (1 - kept) * order
        self._steps += steps
        if self._steps < self.grace_steps or self.mean >= 0.5 or self._warned_epoch == epoch:
            return None
        self._warned_epoch = epoch
        if self.quality != "norm":
            return (
                f"the quality {self.quality!r} is upside down: by it, in only {self.mean:.0%} of the pairs (running "
                "mean) the original view is better than its degraded view, so the gates take blurred views for sharp "
                "ones. What helps: another config.qgface.quality, or a stronger config.qgface.degradation"
            )
        return (
            f"the norm is upside down: in only {self.mean:.0%} of the pairs (running mean) the original view has a "
            "larger feature norm than its degraded view. Norms stand for quality, so the gates now keep blurred views "
            "in the classification and send sharp ones to the contrast. What helps: "
            "config.qgface.train.features_bias = False, config.qgface.quality = 'degradation', more data or epochs, a "
            "lower config.qgface.b"
        )

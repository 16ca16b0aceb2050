"""Means of a step's terms over the steps between two lines of the log."""

from __future__ import annotations

from collections.abc import Mapping
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

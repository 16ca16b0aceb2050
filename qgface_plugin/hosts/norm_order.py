"""Does the norm still carry quality? Every pair of views is a free test of it (DESIGN section 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence


class NormOrderWatch:
    """Follows the running mean of `norm_order` and says once an epoch when it is upside down.

    `norm_order` is the share of pairs, in [0, 1], whose original view has the larger feature norm. Chance is 0.5.
    """

    def __init__(self, momentum: float = 0.01, grace_steps: int = 100) -> None:
        self.momentum, self.grace_steps = momentum, grace_steps
        self.mean: float | None = None
        self._steps, self._warned_epoch = 0, None

    def state(self) -> list[float | int | None]:
        """What it has seen so far, as plain values."""
        return [self.mean, self._steps, self._warned_epoch]

    def load(self, state: Sequence[float | int | None]) -> None:
        """Continue from `state`."""
        self.mean, self._steps, self._warned_epoch = state

    def update(self, norm_order: float, steps: int, epoch: int) -> str | None:
        """Take the mean `norm_order` over the last `steps` steps; the warning's text when it is due, else None.

        The result is that of `steps` single updates with that mean. A mean that is not finite is left out.
        """
        if not math.isfinite(norm_order):
            return None
        kept = (1 - self.momentum) ** steps
        self.mean = norm_order if self.mean is None else kept * self.mean + (1 - kept) * norm_order
        self._steps += steps
        if self._steps < self.grace_steps or self.mean >= 0.5 or self._warned_epoch == epoch:
            return None
        self._warned_epoch = epoch
        return (
            f"the norm is upside down: in only {self.mean:.0%} of the pairs (running mean) the original view has a "
            "larger feature norm than its degraded view. Norms stand for quality, so the gates now keep blurred views "
            "in the classification and send sharp ones to the contrast. What helps: "
            "config.qgface.train.features_bias = False, more data or epochs, a lower config.qgface.b"
        )

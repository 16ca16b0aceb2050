"""Meters between two lines of the log: means of the terms, speed, and whether quality still tells the views apart."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch


class RunningMeans:
    """Means of named terms, summed where they live; only `take` waits for the device.

    Example:
        >>> means = RunningMeans()
        >>> means.add({"loss": torch.tensor(1.0)})
        >>> means.add({"loss": torch.tensor(2.0), "drift": 0.5})
        >>> steps, mean = means.take()
        >>> steps, mean["loss"], mean["drift"]
        (2, 1.5, 0.5)
    """

    def __init__(self) -> None:
        self._steps = 0
        self._sums: dict[str, float | torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._names: tuple[str, ...] = ()
        self._together: torch.Tensor | None = None  # the sums of `_names`, in one tensor: one operation a step

    def add(self, terms: Mapping[str, float | torch.Tensor]) -> None:
        """Take one step's numbers or 0-d tensors; a name may be absent from some steps."""
        self._steps += 1
        tensors = {name: value for name, value in terms.items() if isinstance(value, torch.Tensor)}
        if tensors:
            self._add_together(tensors)
        for name, value in terms.items():
            if not isinstance(value, torch.Tensor):
                self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def _add_together(self, terms: Mapping[str, torch.Tensor]) -> None:
        values = torch.stack([value.detach().float() for value in terms.values()])
        if self._together is None or self._names != tuple(terms):
            self._apart()
            self._names = tuple(terms)
            before = [self._sums.get(name, 0.0) for name in terms]  # a resumed sum comes from a file
            whole = [one.to(values) if isinstance(one, torch.Tensor) else values.new_full((), one) for one in before]
            self._together = torch.stack(whole)
        self._together = self._together + values

    def _apart(self) -> None:
        """Each sum under its name again."""
        if self._together is not None:
            self._sums |= dict(zip(self._names, self._together.unbind(), strict=True))
            self._names, self._together = (), None

    def state_dict(self) -> dict[str, Any]:
        """What is summed so far, as plain values."""
        self._apart()
        return {"steps": self._steps, "sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, to the last bit."""
        self._names, self._together = (), None
        self._steps, self._sums, self._counts = state["steps"], dict(state["sums"]), dict(state["counts"])

    def take(self) -> tuple[int, dict[str, float]]:
        """The number of steps and each name's mean over the steps that had it; then start again."""
        steps, names, together = self._steps, self._names, self._together
        sums = dict(self._sums)
        if together is not None:
            sums |= dict(zip(names, together.tolist(), strict=True))  # one read of the device
        means = {name: float(total) / self._counts[name] for name, total in sums.items()}
        self._steps, self._sums, self._counts, self._names, self._together = 0, {}, {}, (), None
        return steps, means


class Rates(NamedTuple):
    """What `Throughput.take` has measured; NaN and None where no step counted yet.

    Attributes:
        samples_per_second: images per second, over all ranks.
        seconds_per_step: between two steps.
        data_stall: share of the time that was spent waiting for data, in [0, 1]; None where nobody said.
    """

    samples_per_second: float
    seconds_per_step: float
    data_stall: float | None


class Throughput:
    """Speed of the steps since `start` or the last `take`, by the clock.

    Example:
        >>> throughput = Throughput()
        >>> throughput.start()
        >>> throughput.take()
        Rates(samples_per_second=nan, seconds_per_step=nan, data_stall=None)
        >>> throughput.add(samples=64)
        >>> throughput.take().samples_per_second > 0
        True
    """

    def __init__(self) -> None:
        self._clock: float | None = None
        self._waited: float | None = None
        self._steps = self._samples = 0

    @property
    def started(self) -> bool:
        """Whether steps count."""
        return self._clock is not None

    def start(self) -> None:
        """Count from now on."""
        self._clock = time.perf_counter()

    def add(self, samples: int, waited: float | None = None) -> None:
        """Take one step of `samples` images over all ranks, for whose data the loop has waited so many seconds."""
        self._steps, self._samples = self._steps + 1, self._samples + samples
        self._waited = None if waited is None else (self._waited or 0.0) + waited

    def take(self) -> Rates:
        """The rates since it was started or last taken; then count anew."""
        now, before = time.perf_counter(), self._clock
        steps, samples, waited = self._steps, self._samples, self._waited
        self._clock, self._steps, self._samples, self._waited = now, 0, 0, None
        if not steps or before is None:
            return Rates(math.nan, math.nan, None)
        passed = now - before
        return Rates(samples / passed, passed / steps, None if waited is None else waited / passed)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that passes in here does not count."""
        start = time.perf_counter()
        yield
        if self._clock is not None:
            self._clock += time.perf_counter() - start


class OrderWatch:
    """Follows the running mean of `quality_order` and says once per epoch when it is upside down.

    `quality_order` is the share of pairs, in [0, 1], whose original view has the better quality by its source; with
    "norm" it is the larger feature norm. Chance is 0.5. Every pair of views is a free test of it (docs/method.md).

    Args:
        quality: name of the source.
        momentum: weight of one step in the running mean.
        grace_steps: steps before the first warning.
        features_bias: whether the last BatchNorm has a bias that the recipe could take away.

    Example:
        >>> watch = OrderWatch("sharpness", grace_steps=10)
        >>> watch.update(0.9, steps=10, epoch=0)
        >>> watch.update(0.1, steps=100, epoch=0)[:41]
        "the quality 'sharpness' is upside down: b"
    """

    def __init__(
        self, quality: str = "norm", momentum: float = 0.01, grace_steps: int = 100, features_bias: bool = True
    ) -> None:
        self.quality, self.momentum, self.grace_steps = quality, momentum, grace_steps
        self.features_bias = features_bias
        self.mean: float | None = None
        self._steps = 0
        self._warned_epoch: int | None = None

    def state_dict(self) -> list[float | int | None]:
        """What it has seen so far, as plain values."""
        return [self.mean, self._steps, self._warned_epoch]

    def load_state_dict(self, state: Sequence[float | int | None]) -> None:
        """Continue from `state`."""
        mean, steps, epoch = state
        self.mean, self._steps = mean, int(steps or 0)
        self._warned_epoch = None if epoch is None else int(epoch)

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
        bias = "config.qgface.train.features_bias = False, " if self.features_bias else ""
        return (
            f"the norm is upside down: in only {self.mean:.0%} of the pairs (running mean) the original view has a "
            "larger feature norm than its degraded view. Norms stand for quality, so the gates now keep blurred views "
            "in the classification and send sharp ones to the contrast. What helps: "
            f"{bias}config.qgface.quality = 'degradation', more data or epochs, a "
            "lower config.qgface.b; docs/troubleshooting.md says what to look at"
        )


class IdleWatch:
    """Follows the share of the pairs that are contrasted, and says once per epoch when there are hardly any.

    Args:
        grace_steps: steps before the first warning; in the first ones the statistics of quality settle.
        least: the share, in [0, 1], below which the contrast does nothing worth a queue.

    Example:
        >>> watch = IdleWatch(grace_steps=20)
        >>> watch.update(0.0, steps=10, epoch=0)
        >>> watch.update(0.0, steps=10, epoch=0)[:42]
        'the contrast does nothing: 0.0% of the pai'
    """

    def __init__(self, grace_steps: int = 50, least: float = 0.01) -> None:
        self.grace_steps, self.least = grace_steps, least
        self._seen = 0
        self._epoch: int | None = None
        self._steps, self._sum = 0, 0.0  # of this epoch
        self._warned_epoch: int | None = None

    def state_dict(self) -> list[float | int | None]:
        """What it has seen so far, as plain values."""
        return [self._seen, self._epoch, self._steps, self._sum, self._warned_epoch]

    def load_state_dict(self, state: Sequence[float | int | None]) -> None:
        """Continue from `state`."""
        seen, epoch, steps, total, warned = state
        self._seen, self._steps, self._sum = int(seen or 0), int(steps or 0), float(total or 0.0)
        self._epoch = None if epoch is None else int(epoch)
        self._warned_epoch = None if warned is None else int(warned)

    def update(self, share: float, steps: int, epoch: int) -> str | None:
        """Take the mean share of contrasted pairs over the last `steps` steps; the warning when it is due, else None.

        A share that is not finite is left out.
        """
        if not math.isfinite(share):
            return None
        if epoch != self._epoch:
            self._epoch, self._steps, self._sum = epoch, 0, 0.0
        self._seen, self._steps, self._sum = self._seen + steps, self._steps + steps, self._sum + share * steps
        mean = self._sum / self._steps
        if self._seen < self.grace_steps or mean >= self.least or self._warned_epoch == epoch:
            return None
        self._warned_epoch = epoch
        return (
            f"the contrast does nothing: {mean:.1%} of the pairs of this epoch are at or below the threshold b, so "
            "this is plain classification of both views. What helps: config.qgface.b_quantile = 0.3, which contrasts "
            "that share of the pairs whatever quality's scale is, or a higher config.qgface.b; docs/troubleshooting.md "
            "says what to look at ('LQ Pairs is 0')"
        )

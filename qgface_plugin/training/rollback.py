"""Rollback of a step whose loss or gradient is not finite: what its forward pass has changed is put back.

Gradients and weights are not touched before the end of a step; but BatchNorm's running statistics, the statistics of
the quality and the queue are, and one batch that is not finite would spoil them for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..loss.feature_queue import FeatureQueue
from ..loss.partial_fc import QGPartialFC
from ..utils.errors import TrainingError

LOGGER = logging.getLogger(__name__)


class Rollback:
    """Copies of the buffers of `modules` and `criterion`; of the queue only the slots that one step can overwrite.

    Costs one copy of those buffers and of 2B rows of the queue per step; no synchronisation with the device.

    Args:
        modules: whose buffers a step changes; None is passed over.
        criterion: its buffers too.
    """

    def __init__(self, modules: Iterable[nn.Module | None], criterion: QGPartialFC) -> None:
        self._queue: FeatureQueue | None = criterion.queue
        ring = () if self._queue is None else {f"queue.{name}" for name in self._queue.BUFFERS}
        buffers = [b for module in modules if module is not None for b in module.buffers()]
        buffers += [buffer for name, buffer in criterion.named_buffers() if name not in ring]
        buffers = [b.data for b in buffers]  # autograd may still hold them, for a backward pass that does not matter
        self._groups = [_Flat([b for b in buffers if b.dtype == dtype]) for dtype in {b.dtype for b in buffers}]

    @torch.no_grad()
    def remember(self, rows: int) -> None:
        """Before the forward pass of a global batch of `rows` = 2B x ranks views."""
        for group in self._groups:
            group.remember()
        queue = self._queue
        if queue is not None:
            count = min(rows, len(queue.serial))
            self._slots = (queue.cursor + torch.arange(count, device=queue.serial.device)) % max(1, len(queue.serial))
            self._ring = queue.entries()  # a queue that grows takes new buffers
            self._rows = {name: buffer[self._slots] for name, buffer in self._ring.items()}
            self._last_rows = queue.last_rows

    @torch.no_grad()
    def restore(self) -> None:
        """Everything as it was at `remember`."""
        for group in self._groups:
            group.restore()
        queue = self._queue
        if queue is not None:
            for name, buffer in self._ring.items():
                buffer.data[self._slots] = self._rows[name]
                queue.register_buffer(name, buffer)
            queue.last_rows = self._last_rows
            queue.count_living()

    @torch.no_grad()
    def restore_where(self, bad: Tensor) -> None:
        """`restore` where `bad` () bool says so, and nothing else, without asking the device."""
        queue = self._queue
        if queue is not None and queue.serial is not self._ring["serial"]:  # the ring has grown, which is seldom
            if bool(bad):
                self.restore()
            return
        for group in self._groups:
            group.restore_where(bad)
        if queue is not None:
            for name, buffer in self._ring.items():
                buffer.data[self._slots] = torch.where(bad, self._rows[name], buffer[self._slots])
            queue.count_living()


class _Flat:
    """Buffers of one type, copied in one piece: a model has hundreds, and a GPU takes longer to start than to copy."""

    def __init__(self, buffers: list[Tensor]) -> None:
        self._buffers = buffers
        self._copy = torch.cat([b.reshape(-1) for b in buffers])

    def remember(self) -> None:
        torch.cat([b.reshape(-1) for b in self._buffers], out=self._copy)

    def restore(self) -> None:
        self._write(self._copy)

    def restore_where(self, bad: Tensor) -> None:
        self._write(torch.where(bad, self._copy, torch.cat([b.reshape(-1) for b in self._buffers])))

    def _write(self, flat: Tensor) -> None:
        parts = flat.split([b.numel() for b in self._buffers])
        torch._foreach_copy_(self._buffers, [part.view(b.shape) for part, b in zip(parts, self._buffers, strict=True)])


def skip_bad_step(what: str, in_a_row: int, limit: int, advise: Callable[[], str], step: int | None = None) -> None:
    """Say in the log that a step is skipped; after `limit` of them in a row the run ends.

    Args:
        what: is not finite: "loss", "gradient" or both.
        in_a_row: steps skipped in a row, this one included.
        limit: `config.qgface.train.max_bad_steps`.
        advise: what the message ends with, called when the run ends; see `advice`.
        step: its global step; None where the loop does not tell.

    Raises:
        TrainingError: `in_a_row` has reached `limit`; the message ends with the advice.
    """
    where, until = ("the ", "") if step is None else (f"step {step}: ", f", to step {step}")
    LOGGER.warning("%s%s is not finite; the step is skipped (%d in a row)", where, what, in_a_row)
    if in_a_row < limit:
        return
    raise TrainingError(f"{in_a_row} steps in a row without a finite loss and gradient{until}. {advise()}")


def advice(checkpoint: Path | None, followed: bool = True) -> str:
    """What to do about a run that has diverged.

    Args:
        checkpoint: the latest good one, if there is one.
        followed: a good step has followed it.
    """
    lower = "Lower config.lr, or lengthen config.warmup_epoch"
    if checkpoint is None or not checkpoint.exists():
        return f"Last good checkpoint: none was saved yet. {lower}, and start anew"
    doubt = "" if followed else "; no good step has followed it: where it fails too, start anew"
    return f"Last good checkpoint: {checkpoint}. {lower}, and set config.resume = True to go on from it{doubt}"

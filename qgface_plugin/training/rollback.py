"""What a forward pass changes, and putting it back when the step turns out not to be finite.

Gradients and weights are not touched before the end of a step; but BatchNorm's running statistics, the statistics of
the quality and the queue are, and one batch that is not finite would spoil them for good.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..loss.feature_queue import FeatureQueue
from ..loss.partial_fc import QGPartialFC


class Undo:
    """Copies of the buffers of `modules` and `criterion`; of the queue only the slots that one step can overwrite.

    Costs one copy of those buffers and of 2B rows of the queue a step; no synchronisation with the device.
    """

    def __init__(self, modules: Iterable[nn.Module | None], criterion: QGPartialFC) -> None:
        self._queue: FeatureQueue | None = criterion.queue
        ring = () if self._queue is None else {f"queue.{name}" for name in self._queue.BUFFERS}
        buffers = [b for module in modules if module is not None for b in module.buffers()]
        buffers += [buffer for name, buffer in criterion.named_buffers() if name not in ring]
        buffers = [b.data for b in buffers]  # autograd may still hold them, for a backward pass that does not matter
        self._buffers = [[b for b in buffers if b.dtype == dtype] for dtype in {b.dtype for b in buffers}]
        self._copies = [[b.clone() for b in group] for group in self._buffers]

    @torch.no_grad()
    def remember(self, rows: int) -> None:
        """Before the forward pass of a global batch of `rows` = 2B x ranks views."""
        for copies, group in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(copies, group)
        queue = self._queue
        if queue is not None:
            count = min(rows, len(queue.serial))
            self._slots = (queue.cursor + torch.arange(count, device=queue.serial.device)) % max(1, len(queue.serial))
            self._ring = queue.entries()  # a queue that grows takes new buffers
            self._rows = {name: buffer[self._slots] for name, buffer in self._ring.items()}
            self._last_rows = queue.last_rows

    @torch.no_grad()
    def back(self) -> None:
        """Everything as it was at `remember`."""
        for copies, group in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(group, copies)
        queue = self._queue
        if queue is not None:
            for name, buffer in self._ring.items():
                buffer.data[self._slots] = self._rows[name]
                queue.register_buffer(name, buffer)
            queue.last_rows = self._last_rows

"""Batches as a training step takes them: on its device, with both views there; and how long it waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from ..config.degradation import DegradationPolicy
from ..data.degrade_batch import both_views
from ..data.pair_batch import PairBatch
from ..utils.errors import ConfigError, DataError


class Feed:
    """Takes batches from data workers to the device.

    On CUDA a batch is copied, and its degraded views are made where that is the device's work, while the one before it
    is trained on.

    policy: of the degraded views, for batches that come without them.

    Attributes:
        waited: seconds spent waiting for data workers since `take_waited` was last called.
    """

    def __init__(self, device: torch.device, policy: DegradationPolicy | None) -> None:
        self.device, self.policy, self.waited = device, policy, 0.0

    def take_waited(self) -> float:
        """`waited`, which then starts again at 0."""
        waited, self.waited = self.waited, 0.0
        return waited

    def __call__(self, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
        """The same batches on the device, each with both its views.

        Raises:
            ConfigError, DataError: what a data worker raised, in its own words, the worker's traceback as the cause.
        """
        timed = self._timed(batches)
        return self._ahead(timed) if self.device.type == "cuda" else map(self._ready, timed)

    def _timed(self, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches, None)
            except (ConfigError, DataError) as error:
                raise type(error)(_said(error)) from error
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _ready(self, batch: PairBatch) -> PairBatch:
        return both_views(batch.to(self.device, non_blocking=True), self.policy)

    def _ahead(self, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
        stream, waiting = torch.cuda.Stream(self.device), None
        for batch in batches:
            with torch.cuda.stream(stream):
                moved = self._ready(batch)
                done = stream.record_event()
            if waiting is not None:
                yield _arrived(*waiting)
            waiting = moved, done
        if waiting is not None:
            yield _arrived(*waiting)


def _said(error: Exception) -> str:
    """An error's own words, without the traceback of the worker that torch puts before them."""
    kind = type(error)
    return str(error).rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")[2].rstrip()


def _arrived(batch: PairBatch, done: torch.cuda.Event) -> PairBatch:
    current = torch.cuda.current_stream(batch.labels.device)
    current.wait_event(done)
    for tensor in batch.tensors():
        tensor.record_stream(current)  # the memory belongs to the copying stream and must not be reused too early
    return batch

"""Batches as a training step takes them: on its device, with both views there; and how long it waits for them."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..config.degradation import DegradationPolicy
from ..config.recipe import Run
from ..loss.quality import of_images
from ..utils.errors import ConfigError, DataError
from .degradation.gpu import both_views
from .pair_batch import PairBatch
from .pair_dataset import PairDataset, collate, concatenate, normalise, worker_init
from .sampler import EpochSampler


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


# --- Pairs of views as the loader of a host's own loop: batches [images, labels], ready on the rank's device ----------


LOGGER = logging.getLogger(__name__)


class PairLoader(DataLoader):
    """Yields [images, labels]: images float32 (2B, 3, 112, 112) in [-1, 1], originals first; labels int64 (2B,).

    `sampler` has `set_epoch`. `latest` is the PairBatch behind the batch that was yielded last, on the device; `feed`
    knows how long the loop has waited for data. Argument `quality` names the source of quality; attribute
    `quality` are the latest views' numbers (2B,), None where the criterion measures them.
    """

    def __init__(
        self, dataset: PairDataset, sampler: EpochSampler, workers: int, device: torch.device, quality: str = "norm"
    ) -> None:
        super().__init__(
            dataset.for_workers(workers, sampler.batch_size),
            batch_size=sampler.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            drop_last=True,
            worker_init_fn=worker_init,
        )
        self.feed, self.latest, self.skipped = Feed(device, dataset.policy), None, 0
        self.source, self.quality = quality, None

    def __iter__(self) -> Iterator[list[Tensor]]:
        for batch in self.feed(super().__iter__()):
            self.latest = batch
            self.skipped += batch.skipped
            images, labels = concatenate(batch)
            images = normalise(images)
            self.quality = of_images(self.source, images, batch.strengths())
            yield [images, labels]
        if self.skipped:
            LOGGER.warning("%d corrupt images were skipped so far and replaced by others", self.skipped)


def make_loader(run: Run, dataset: PairDataset, sampler: EpochSampler, device: torch.device) -> DataLoader:
    """Batches of one epoch from where the sampler starts.

    Its generator is its own: torch's global one would be a draw further after every start in the middle of an epoch.
    """
    return DataLoader(
        dataset.for_workers(run.num_workers, run.batch_size),
        batch_size=run.batch_size,
        sampler=sampler,
        num_workers=run.num_workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        drop_last=True,
        worker_init_fn=_start_worker,
        generator=torch.Generator().manual_seed(run.seed),
    )


def _start_worker(worker: int) -> None:
    worker_init(worker)
    leave_sigterm_to_the_parent()


@contextmanager
def batches(loader: DataLoader) -> Iterator[Iterator[PairBatch]]:
    """The loader's batches; its workers are gone at the end of the block, also when an error ends it."""
    found = iter(loader)
    try:
        yield found
    finally:
        if shut_down := getattr(found, "_shutdown_workers", None):  # else it waits for the garbage collector
            shut_down()


def leave_sigterm_to_the_parent() -> None:
    """For a loader's worker: a batch system sends SIGTERM to every process of a job, and a run whose workers died of
    it could not finish its step. Workers end when their parent tells them to, or is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

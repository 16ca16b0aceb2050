"""Loaders of pairs: one configuration of the data workers for both trainers, and batches ready on the device."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..config.degradation import DegradationPolicy
from ..utils.errors import ConfigError, DataError, TrainingError
from ..utils.python_3_14 import start_method
from .degradation.gpu import both_views
from .images import surplus_line
from .pair_batch import PairBatch, concatenate, normalise
from .pair_dataset import PairDataset, collate, worker_init
from .sampler import EpochSampler

LOGGER = logging.getLogger(__name__)


class PairLoader(DataLoader[PairBatch]):
    """Yields one rank's batches of an epoch (`PairBatch`), as the data workers make them, from the sampler's start on.

    Args:
        dataset: the pairs.
        sampler: which of them, in batches of `sampler.batch_size`.
        workers: data workers, 0 for none.
        device: that the batches go to.
    """

    def __init__(self, dataset: PairDataset, sampler: EpochSampler, workers: int, device: torch.device) -> None:
        super().__init__(
            dataset.for_workers(workers, sampler.batch_size),
            batch_size=sampler.batch_size,
            sampler=sampler,
            num_workers=workers,
            multiprocessing_context=start_method(workers),
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            drop_last=True,
            worker_init_fn=start_worker,
            # of its own: torch's global one would be a draw further after every start in the middle of an epoch
            generator=torch.Generator().manual_seed(sampler.seed),
        )


class TensorLoader(PairLoader):
    """Yields [images, labels] on the device, as the loop of an arcface_torch checkout takes them.

    images float32 (2B, 3, 112, 112) in [-1, 1], originals first; labels int64 (2B,). Single views: B of each.

    Attributes:
        latest: the PairBatch behind the batch that was yielded last, on the device; None before the first.
        images: the images that were yielded last.
        prefetcher: knows how long the loop has waited for data.
        skipped: corrupt images that were replaced so far.
    """

    def __init__(self, dataset: PairDataset, sampler: EpochSampler, workers: int, device: torch.device) -> None:
        super().__init__(dataset, sampler, workers, device)
        self.prefetcher = Prefetcher(device, dataset.policy)
        self.latest: PairBatch | None = None
        self.images: Tensor | None = None
        self.skipped = 0
        self.surplus = SurplusCount()

    # Unlike DataLoader's, a generator: the batches go to the device on the way.
    def __iter__(self) -> Iterator[list[Tensor]]:  # type: ignore[override]
        for batch in self.prefetcher(super().__iter__()):
            self.latest = batch
            self.skipped += batch.skipped
            self.surplus.add(batch)
            images, labels = concatenate(batch)
            self.images = images = normalise(images)
            yield [images, labels]
        if self.skipped:
            LOGGER.warning("%d corrupt images were skipped so far and replaced by others", self.skipped)
        self.surplus.end_epoch()


class SurplusCount:
    """Counts a run's JPEGs with surplus bytes or without their end marker, and says so once.

    Example:
        >>> import numpy as np
        >>> count, pixels = SurplusCount(), torch.zeros((1, 112, 112, 3), dtype=torch.uint8)
        >>> count.add(PairBatch.of(pixels, paired=False, labels=np.zeros(1, np.int64), skipped=0, surplus=1))
        >>> count.end_epoch()  # one warning in the log
        >>> count.end_epoch()  # none
    """

    def __init__(self) -> None:
        self._found, self._told = 0, False

    def add(self, batch: PairBatch) -> None:
        """A batch of this epoch."""
        self._found += batch.surplus

    def end_epoch(self) -> None:
        """Say it at the end of the first epoch that had some."""
        if self._found and not self._told:
            LOGGER.warning("%s", surplus_line(self._found))
            self._told = True
        self._found = 0


def start_worker(worker: int) -> None:
    """`worker_init_fn` of a loader in a run: no threads of OpenCV's, and signals are the parent's."""
    worker_init(worker)
    leave_signals_to_the_parent()


def leave_signals_to_the_parent() -> None:
    """For a loader's worker: a batch system sends SIGTERM, and a terminal Ctrl-C, to every process of a job, and a run
    whose workers died of it could not finish its step. Workers end when their parent tells them to, or is gone."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def open_batches(loader: DataLoader) -> Iterator[Iterator[PairBatch]]:
    """The loader's batches; its workers are gone at the end of the block, also when an error ends it."""
    batches = iter(loader)
    try:
        yield batches
    finally:
        if shut_down := getattr(batches, "_shutdown_workers", None):  # else it waits for the garbage collector
            shut_down()


class Prefetcher:
    """Takes batches from data workers to the device, called with an iterator of them.

    On CUDA a batch is copied, and its degraded views are made where that is the device's work, while the one before it
    is trained on.

    Args:
        device: where the batches go.
        policy: of the degraded views, for batches that come without them.

    Attributes:
        waited: seconds spent waiting for data workers since `take_waited` was last called.
    """

    def __init__(self, device: torch.device, policy: DegradationPolicy | None) -> None:
        self.device, self.policy, self.waited = device, policy, 0.0
        self._stream: torch.cuda.Stream | None = None  # one for the run: each has memory of its own

    def take_waited(self) -> float:
        """`waited`, which then starts again at 0."""
        waited, self.waited = self.waited, 0.0
        return waited

    def __call__(self, batches: Iterable[PairBatch]) -> Iterator[PairBatch]:
        """The same batches on the device, each with both its views.

        Raises:
            ConfigError, DataError: what a data worker raised, in its own words, the worker's traceback as the cause.
        """
        timed = self._timed(iter(batches))
        return self._ahead(timed) if self.device.type == "cuda" else map(self._ready, timed)

    def _timed(self, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches, None)
            except (ConfigError, DataError) as error:
                raise type(error)(_own_words(error)) from error
            except (RuntimeError, OSError) as error:
                if (reason := _lost_worker(error)) is None:
                    raise
                raise TrainingError(reason) from error
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _ready(self, batch: PairBatch) -> PairBatch:
        return both_views(batch.to(self.device, non_blocking=True), self.policy)

    def _ahead(self, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
        stream, waiting = self._stream or torch.cuda.Stream(self.device), None
        self._stream = stream
        for batch in batches:
            with torch.cuda.stream(stream):
                moved = self._ready(batch)
                done = stream.record_event()
            if waiting is not None:
                yield _arrived(*waiting)
            waiting = moved, done
        if waiting is not None:
            yield _arrived(*waiting)


def _own_words(error: Exception) -> str:
    """The error's message without the traceback of the worker that torch puts before it."""
    kind = type(error)
    return str(error).rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")[2].rstrip()


def _lost_worker(error: Exception) -> str | None:
    """What to do about a worker that has died, or shared memory that is full; None for other errors."""
    text = str(error)
    if "shared memory" in text or "No space left" in text or "Bus error" in text:
        return (
            "a data worker found no shared memory: /dev/shm is full. Give more (docker run --shm-size=1g), or lower "
            "config.num_workers; 0 needs none. If there is room, a data file was cut short while it was read"
        )
    if "DataLoader worker" in text:
        return (
            f"a data worker has ended: {text.splitlines()[0]}. Killed workers often mean that memory ran out: lower "
            "config.num_workers or config.batch_size"
        )
    return None


def _arrived(batch: PairBatch, done: torch.cuda.Event) -> PairBatch:
    current = torch.cuda.current_stream(batch.labels.device)
    current.wait_event(done)
    for tensor in batch.tensors():
        tensor.record_stream(current)  # the memory belongs to the copying stream and must not be reused too early
    return batch

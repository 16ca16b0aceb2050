"""Pairs of views as the loader of a host's own loop: batches [images, labels], ready on the rank's device."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.pairs import PairBatch, PairDataset, collate, concatenate, normalise, worker_init
from ..data.sampler import EpochSampler

LOGGER = logging.getLogger(__name__)


class PairLoader(DataLoader):
    """Yields [images, labels]: images float32 (2B, 3, 112, 112) in [-1, 1], originals first; labels int64 (2B,).

    `sampler` has `set_epoch`. `latest` is the PairBatch behind the batch that was yielded last, on the device. On CUDA
    a batch is copied while the one before it is trained on.
    """

    def __init__(self, dataset: PairDataset, sampler: EpochSampler, workers: int, device: torch.device) -> None:
        super().__init__(
            dataset,
            batch_size=sampler.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            drop_last=True,
            worker_init_fn=worker_init,
        )
        self.device, self.latest, self.skipped = device, None, 0

    def __iter__(self) -> Iterator[list[Tensor]]:
        batches = super().__iter__()
        for batch in _copied_ahead(batches, self.device) if self.device.type == "cuda" else batches:
            self.latest = batch
            self.skipped += batch.skipped
            images, labels = concatenate(batch)
            yield [normalise(images), labels]
        if self.skipped:
            LOGGER.warning("%d corrupt images were skipped so far and replaced by others", self.skipped)


def _copied_ahead(batches: Iterator[PairBatch], device: torch.device) -> Iterator[PairBatch]:
    """Each batch on the device; the next one's copy is under way when it is handed out."""
    stream, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device, non_blocking=True)
            done = stream.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = moved, done
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(batch: PairBatch, done: torch.cuda.Event) -> PairBatch:
    current = torch.cuda.current_stream(batch.labels.device)
    current.wait_event(done)
    for tensor in (batch.high, batch.low, batch.labels):
        if tensor is not None:
            tensor.record_stream(current)  # the memory belongs to the copying stream and must not be reused too early
    return batch

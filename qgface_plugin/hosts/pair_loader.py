"""Pairs of views as the loader of a host's own loop: batches [images, labels], ready on the rank's device."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.pairs import PairDataset, collate, concatenate, normalise, worker_init
from ..data.sampler import EpochSampler
from ..loss.quality import of_images
from .feed import Feed

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

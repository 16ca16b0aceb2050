"""Pairs for a training loop of one's own: `pair_loader`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..config.degradation import DegradationPolicy, degradation_policy
from ..utils import distributed
from .loader import PairLoader, Prefetcher
from .pair_batch import PairBatch
from .pair_dataset import PairDataset
from .sampler import EpochSampler
from .sources.folder import FaceFolder
from .sources.records import FaceRecords


class OwnLoader(PairLoader):
    """Yields this rank's batches of an epoch on the device, each image with both its views; `pair_loader` makes one.

    Attributes:
        num_classes: identities.
    """

    def __init__(
        self, dataset: PairDataset, sampler: EpochSampler, workers: int, device: torch.device, num_classes: int
    ) -> None:
        super().__init__(dataset, sampler, workers, device)
        self.num_classes, self._prefetcher = num_classes, Prefetcher(device, dataset.policy)

    # Unlike DataLoader's, a generator: the batches go to the device on the way.
    def __iter__(self) -> Iterator[PairBatch]:  # type: ignore[override]
        yield from self._prefetcher(super().__iter__())

    def set_epoch(self, epoch: int) -> None:
        """Draw the order and the degraded views of an epoch, from 0, at the next iteration."""
        sampler = self.sampler
        assert isinstance(sampler, EpochSampler)
        sampler.set_epoch(epoch)


def pair_loader(
    rec: str | os.PathLike[str],
    batch_size: int,
    seed: int = 2048,
    *,
    degradation: str | Mapping[str, Any] | DegradationPolicy | None = "ours",
    workers: int = 2,
    device: torch.device | str = "cpu",
    on_corrupt: str = "error",
) -> OwnLoader:
    """Batches of pairs for a loop of your own, the same that a recipe trains on.

    Ranks are those of torch.distributed, if it is there: each gets its own part of the global batch.

    Args:
        rec: folder with train.rec and train.idx, or with a sub-folder of aligned images for each person.
        batch_size: images per rank and step, each of which comes as two views.
        seed: of order and degradation, which follow from it and the epoch.
        degradation: as `config.qgface.degradation`; None: single views.
        workers: data workers, 0 for none.
        device: that the batches come on.
        on_corrupt: "error" or "skip", as `config.qgface.data.on_corrupt`; for train.rec.

    Raises:
        DataError: data that cannot be trained on.
        ConfigError: a setting that does not fit.

    Example:
        >>> import tempfile
        >>> from qgface_plugin.data.procedural.dataset import write_dataset
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_dataset(folder, identities=4, images_per_identity=4, pairs=2, seed=0)
        ...     loader = pair_loader(folder, batch_size=8, workers=0)
        ...     loader.set_epoch(1)
        ...     [tuple(batch.images().shape) for batch in loader]
        [(16, 3, 112, 112), (16, 3, 112, 112)]
    """
    policy = degradation if isinstance(degradation, DegradationPolicy) else degradation_policy(degradation)
    packed = (Path(rec) / "train.rec").exists()
    source = FaceRecords(os.fspath(rec), on_corrupt=on_corrupt) if packed else FaceFolder(os.fspath(rec))
    source.check()
    dataset = PairDataset(source, policy, seed, on_corrupt)
    sampler = EpochSampler(len(dataset), batch_size, distributed.rank(), distributed.world_size(), seed)
    return OwnLoader(dataset, sampler, workers, torch.device(device), source.num_classes)

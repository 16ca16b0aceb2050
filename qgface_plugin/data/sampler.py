"""Sampler: which images every rank sees at every step, a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ..utils.errors import ConfigError


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) for one rank, `batch_size` of them per step.

    Step t of an epoch takes the entries [t G, (t + 1) G) of a permutation of all images, G = batch_size * world_size
    the global batch; rank r takes the r-th run of `batch_size` of them. So the global batches do not depend on the
    number of ranks that share them. The last, incomplete global batch is left out.

    Args:
        length: images in the data set.
        batch_size: images per rank and step.
        rank, world_size: this rank, and how many there are.
        seed: >= 0; the permutation follows from it and the epoch.
        epoch: >= 0.
        start_step: steps of this epoch that are done already, when a run resumes; in [0, steps_per_epoch].

    Raises:
        ConfigError: a value out of range, or fewer images than one global batch.

    Example:
        >>> ranks = [EpochSampler(6, batch_size=1, rank=rank, world_size=2, seed=0) for rank in (0, 1)]
        >>> [len(rank) for rank in ranks], sorted(index for rank in ranks for _, index in rank)
        ([3, 3], [0, 1, 2, 3, 4, 5])
    """

    def __init__(
        self, length: int, batch_size: int, rank: int, world_size: int, seed: int, epoch: int = 0, start_step: int = 0
    ) -> None:
        for name, value, low in (("batch_size", batch_size, 1), ("world_size", world_size, 1), ("seed", seed, 0)):
            if value < low:
                raise ConfigError(f"{name} is {value}: it must be at least {low}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}: it must be in [0, {world_size})")
        if length < batch_size * world_size:
            raise ConfigError(
                f"batch_size {batch_size} on {world_size} rank(s) needs {batch_size * world_size} images per step, but "
                f"the data set has {length} images; lower batch_size or use fewer ranks"
            )
        self.length, self.batch_size, self.rank, self.world_size, self.seed = length, batch_size, rank, world_size, seed
        self.steps_per_epoch = length // (batch_size * world_size)
        self.set_epoch(epoch, start_step)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Move to step `start_step` of an epoch; takes effect at the next `iter`."""
        if epoch < 0:
            raise ConfigError(f"epoch is {epoch}: it must be at least 0")
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ConfigError(f"start_step is {start_step}: an epoch has {self.steps_per_epoch} steps")
        self.epoch, self.start_step = epoch, start_step

    def __len__(self) -> int:
        """Images that are left to this rank in this epoch."""
        return (self.steps_per_epoch - self.start_step) * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        whole = order[: self.steps_per_epoch * self.world_size * self.batch_size]
        mine = whole.reshape(self.steps_per_epoch, self.world_size, self.batch_size)[self.start_step :, self.rank]
        for step in mine:
            for index in step.tolist():
                yield epoch, index

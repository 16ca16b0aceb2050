"""Class centres from an encoder: the mean unit embedding of each identity's originals, in one pass over the data."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..config.run import Run
from ..data.loader import Prefetcher, open_batches, start_worker
from ..data.pair_batch import normalise
from ..data.pair_dataset import Originals, PairDataset, collate
from ..loss.partial_fc import QGPartialFC
from ..models.embeddings import evaluating
from ..utils import distributed
from ..utils.device import autocast
from ..utils.python_3_14 import start_method

LOGGER = logging.getLogger(__name__)


class ClassMeans(NamedTuple):
    """Means of this rank's classes.

    Attributes:
        means: (n_local, d) float32, mean of the unit embeddings; 0 where there is no image.
        images: (n_local,) how many images each mean is of.
    """

    means: Tensor
    images: Tensor


def class_means(
    backbone: nn.Module, dataset: PairDataset, run: Run, device: torch.device, dtype: torch.dtype
) -> ClassMeans:
    """The mean unit embedding of each identity, over its originals as they are: not degraded, not mirrored.

    Not mirrored, because the second pass would double the time and an encoder hardly tells mirror images apart. The
    ranks share the images, and each keeps the sums of its own classes, in float64: the means do not depend on the
    number of ranks, but for the rounding of the embeddings. One all-gather of (B, d) and of (B,) per batch.

    Args:
        backbone: in any mode, which it keeps; evaluated in evaluation mode.
        dataset: the training pairs.
        run: the resolved recipe, with its counts.
        device: of the backbone.
        dtype: that the backbone computes in.
    """
    assert run.num_classes is not None
    start, count = distributed.shard(run.num_classes)
    sums = torch.zeros(count, run.embedding_size, dtype=torch.float64, device=device)
    images = torch.zeros(count, dtype=torch.long, device=device)
    size = 2 * run.batch_size  # a training step has as many rows
    bar = tqdm(total=len(dataset), desc="class centres", unit="image", disable=_hidden())
    with bar, evaluating(backbone), torch.no_grad():
        for batch, labels in _originals(dataset, run, size, device):
            embeddings = torch.zeros(size, run.embedding_size, device=device)
            if batch is not None:
                if run.train.channels_last:
                    batch = batch.contiguous(memory_format=torch.channels_last)
                with autocast(device, dtype):
                    found = backbone(batch)
                embeddings[: len(found)] = normalize(found.float())
            embeddings = distributed.gather_views(embeddings, views=1)
            column = distributed.gather_views(labels, views=1) - start
            own = ((column >= 0) & (column < count)).nonzero().squeeze(1)
            sums.index_add_(0, column[own], embeddings[own].double())
            images.index_add_(0, column[own], torch.ones_like(own))
            bar.update(min(size * distributed.world_size(), len(dataset) - bar.n))
    return ClassMeans((sums / images.clamp_min(1).unsqueeze(1)).float(), images)


@torch.no_grad()
def take_over(found: ClassMeans, criterion: QGPartialFC) -> None:
    """Let the class centres begin as the means; an identity without an image keeps the centre that was drawn."""
    seen = (found.images > 0).unsqueeze(1)
    criterion.weight.copy_(torch.where(seen, found.means, criterion.weight))
    missing = int(distributed.total((~seen).sum()))
    LOGGER.info(
        "class centres begin as the mean unit embedding of each identity%s",
        f"; {missing} have no image and begin at random" if missing else "",
    )


def _hidden() -> bool | None:
    """tqdm's `disable`: on rank 0 when standard error is no terminal, on others always."""
    return True if distributed.rank() else None


def _originals(
    dataset: PairDataset, run: Run, size: int, device: torch.device
) -> Iterator[tuple[Tensor | None, Tensor]]:
    """This rank's share of the images, as many batches on every rank: images (B, 3, 112, 112), or None where none are
    left, and labels (size,), -1 behind the last one."""
    ranks, rank = distributed.world_size(), distributed.rank()
    originals, total = Originals(dataset.source, dataset.on_corrupt), len(dataset)
    steps = -(-total // (size * ranks))
    starts = [(step * ranks + rank) * size for step in range(steps)]
    chosen = [[(0, index) for index in range(at, min(at + size, total))] for at in starts if at < total]
    loader: DataLoader = DataLoader(
        originals.for_workers(run.num_workers, size),
        batch_sampler=chosen,
        num_workers=run.num_workers,
        multiprocessing_context=start_method(run.num_workers),
        collate_fn=collate,
        worker_init_fn=start_worker,
        pin_memory=device.type == "cuda",
        generator=torch.Generator().manual_seed(0),  # of its own: the run's draws stay as they are
    )
    with open_batches(loader) as batches:
        ready = Prefetcher(device, None)(batches)
        for step in range(steps):
            labels = torch.full((size,), -1, dtype=torch.long, device=device)
            batch = next(ready) if step < len(chosen) else None
            if batch is not None:
                labels[: len(batch)] = batch.labels
            yield (None if batch is None else normalise(batch.high)), labels

"""The parts of a run, built from its recipe: face source, loader, backbone, criterion, optimiser."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..backbones import get_model
from ..config.recipe import Run
from ..data.bins import PairSet, read_bin
from ..data.folders import FaceFolder
from ..data.pairs import PairBatch, PairDataset, collate, worker_init
from ..data.procedural import write_dataset
from ..data.records import FaceRecords
from ..data.sampler import EpochSampler
from ..loss.margin import QGFaceMargin
from ..loss.partial_fc import QGPartialFC
from ..utils import distributed
from ..utils.errors import ConfigError
from .stop import leave_sigterm_to_the_parent

LOGGER = logging.getLogger(__name__)


def open_source(run: Run) -> tuple[FaceRecords | FaceFolder, Run]:
    """The training faces, checked, and the recipe with the counts that the data says.

    Raises DataError for data that cannot be trained on, ConfigError where the recipe's counts differ from the data's.
    """
    if not run.rec:
        raise ConfigError("config.rec names no data: set it to a folder with train.rec, or set DATA_ROOT")
    if run.data.source == "folder":
        source: FaceRecords | FaceFolder = FaceFolder(run.rec if isinstance(run.rec, str) else run.rec[0])
    else:
        if run.data.source == "procedural":
            draw_faces(run)
        source = FaceRecords(run.rec, on_corrupt=run.data.on_corrupt)
    source.check()
    for key, given, found in (
        ("num_classes", run.num_classes, source.num_classes),
        ("num_image", run.num_image, len(source)),
    ):
        if given is not None and given != found:
            raise ConfigError(
                f"config.{key} is {given}, but {run.rec} has {found}: leave it out, or name the right data"
            )
    return source, replace(run, num_classes=source.num_classes, num_image=len(source))


def draw_faces(run: Run) -> None:
    """Write the procedural faces that the recipe asks for; rank 0 draws, the others wait."""
    if distributed.rank() == 0:
        data = run.data
        with tqdm(desc="drawing faces", unit="face", leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            write_dataset(run.rec, data.identities, data.images_per_identity, data.pairs, run.seed, show)
    distributed.barrier()


def make_dataset(run: Run, source: FaceRecords | FaceFolder) -> PairDataset:
    """The pairs that the recipe asks for."""
    return PairDataset(source, run.degradation, run.seed, run.data.on_corrupt, run.data.degrade_on)


def make_sampler(run: Run, epoch: int = 0, start_step: int = 0) -> EpochSampler:
    """This rank's share of an epoch, from `start_step` on."""
    ranks, rank = distributed.world_size(), distributed.rank()
    return EpochSampler(run.num_image, run.batch_size, rank, ranks, run.seed, epoch=epoch, start_step=start_step)


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


def make_backbone(run: Run, device: torch.device) -> nn.Module:
    """The backbone on its device, in `channels_last` where the recipe asks for it, the same weights on every rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        backbone = get_model(run.network, num_features=run.embedding_size, features_bias=run.train.features_bias)
    return backbone.to(
        device, memory_format=torch.channels_last if run.train.channels_last else torch.contiguous_format
    )


def make_criterion(run: Run, device: torch.device, fp16: bool) -> QGPartialFC:
    """The criterion over this rank's share of the classes."""
    assert run.num_classes is not None
    criterion = QGPartialFC(
        QGFaceMargin.from_config(run.qgface),
        run.embedding_size,
        run.num_classes,
        sample_rate=run.sample_rate,
        fp16=fp16,
        paired=run.degradation is not None,
        sample_seed=run.seed,
    )
    return criterion.to(device)


def make_optimizer(run: Run, backbone: nn.Module, criterion: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW, one pass over all numbers ("fused"); the class centres are the last group, as arcface_torch has
    it."""
    groups = [{"params": [p for p in module.parameters() if p.requires_grad]} for module in (backbone, criterion)]
    if run.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=run.lr, weight_decay=run.weight_decay, fused=True)
    momentum, decay = run.momentum, run.weight_decay
    return torch.optim.SGD(groups, lr=run.lr, momentum=momentum, weight_decay=decay, fused=True)


def open_pair_sets(run: Run) -> list[PairSet]:
    """The verification sets that `config.val_targets` names, `<name>.bin` beside the training data, on rank 0 only.

    A set that is not there is named in the log, as arcface_torch passes over it too.
    """
    if distributed.rank() or not run.val_targets:
        return []
    roots = [Path(root) for root in ([run.rec] if isinstance(run.rec, str) else run.rec)]
    folders = [root if root.is_dir() else root.parent for root in roots]
    found = []
    for name in run.val_targets:
        path = next((folder / f"{name}.bin" for folder in folders if (folder / f"{name}.bin").exists()), None)
        if path is None:
            LOGGER.warning("no verification on %s: there is no %s.bin in %s", name, name, ", ".join(map(str, folders)))
        else:
            found.append(read_bin(path))
    return found

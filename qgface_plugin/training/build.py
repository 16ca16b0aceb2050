"""The parts of a run, built from its recipe: face source, loader, backbone, criterion, optimiser."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from ..config.recipe import Run
from ..data.bin_files import PairSet, read_bin
from ..data.pair_dataset import PairDataset
from ..data.sampler import EpochSampler
from ..data.sources.folder import FaceFolder
from ..data.sources.records import FaceRecords
from ..loss.margin import QGFaceMargin
from ..loss.partial_fc import QGPartialFC
from ..models.backbones import get_model
from ..utils import distributed

LOGGER = logging.getLogger(__name__)


def make_dataset(run: Run, source: FaceRecords | FaceFolder) -> PairDataset:
    """The pairs that the recipe asks for."""
    return PairDataset(source, run.degradation, run.seed, run.data.on_corrupt, run.data.degrade_on)


def make_sampler(run: Run, epoch: int = 0, start_step: int = 0) -> EpochSampler:
    """This rank's share of an epoch, from `start_step` on."""
    ranks, rank = distributed.world_size(), distributed.rank()
    return EpochSampler(run.num_image, run.batch_size, rank, ranks, run.seed, epoch=epoch, start_step=start_step)


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

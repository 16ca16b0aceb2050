"""Builders of what a run consists of, from its recipe: data set, sampler, backbone, criterion, optimiser, step."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from ..config.recipe import Run
from ..data.bin_files import read_bin
from ..data.pair_dataset import PairDataset
from ..data.sampler import EpochSampler
from ..data.sources.source import FaceSource
from ..evaluation.protocols.pair_sets import DecodedPairs, check_flags
from ..loss.margin import QGFaceMargin
from ..loss.partial_fc import QGPartialFC
from ..models.backbones import get_model, save_activations
from ..models.digest import model_digest
from ..models.momentum_encoder import MomentumEncoder
from ..models.teacher import Teacher
from ..models.trainable import Trainable, load_trainable
from ..models.weights import load_backbone
from ..utils import distributed
from ..utils.device import pick_precision
from ..utils.errors import ConfigError, DataError
from ..utils.registry import QUEUE_KINDS
from .lr_schedule import build_schedule
from .moving import Moving
from .step import TrainStep

LOGGER = logging.getLogger(__name__)


def make_dataset(run: Run, source: FaceSource) -> PairDataset:
    """The pairs that the recipe asks for."""
    return PairDataset(source, run.degradation, run.seed, run.data.on_corrupt, run.data.degrade_on)


def make_sampler(run: Run, epoch: int = 0, start_step: int = 0) -> EpochSampler:
    """This rank's share of an epoch, from `start_step` on."""
    ranks, rank = distributed.world_size(), distributed.rank()
    assert run.num_image is not None  # open_source has counted
    return EpochSampler(run.num_image, run.batch_size, rank, ranks, run.seed, epoch=epoch, start_step=start_step)


def make_backbone(run: Run, device: torch.device, start: Trainable | None = None) -> nn.Module:
    """The backbone on its device, in `channels_last` where the recipe asks for it, the same weights on every rank.

    Args:
        run: the resolved recipe.
        device: that it trains on.
        start: the encoder that the run starts from, of `starting_encoder`; it is not copied.

    Raises:
        CheckpointError: the weights of `config.init_from` do not fit.
    """
    if start is not None:
        backbone = start.backbone
    else:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(run.seed)  # a GPU's generators stay as they are
            backbone = get_model(run.network, num_features=run.embedding_size, features_bias=run.train.features_bias)
        if run.init_from:
            load_backbone(run.init_from, backbone)
    if run.train.checkpoint_activations:
        save_activations(backbone, run.network)
    return backbone.to(  # type: ignore[call-overload] # torch forgets memory_format
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
    criterion.kept = round(run.train.kept_gib * 2**28)  # float32
    return criterion.to(device)


def make_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """The loss scaler of float16, disabled for other types. It starts where a network of random weights has no overflow
    (torch's 2**16 is halved several times at once there), and doubles while there is none."""
    enabled = dtype == torch.float16
    return torch.amp.GradScaler(device.type, enabled=enabled, init_scale=2.0**11, growth_interval=100)


def make_optimizer(run: Run, backbone: nn.Module, criterion: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW, in one pass over all weights; the class centres are the last group, as arcface_torch has it."""
    rates = (run.finetune.backbone_lr or run.lr, run.lr)
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "lr": rate}
        for module, rate in zip((backbone, criterion), rates, strict=True)
    ]
    if run.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=run.lr, weight_decay=run.weight_decay, fused=True)
    momentum, decay = run.momentum, run.weight_decay
    return torch.optim.SGD(groups, lr=run.lr, momentum=momentum, weight_decay=decay, fused=True)


def make_schedule(run: Run, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> LambdaLR:
    """The learning rate of the recipe, whose epochs become steps."""
    train = run.train
    return build_schedule(
        optimizer,
        train.schedule,
        round(max(0, run.warmup_epoch) * steps_per_epoch),
        run.num_epoch * steps_per_epoch,
        [epoch * steps_per_epoch for epoch in train.milestones],
        train.gamma,
    )


def make_step(
    run: Run,
    device: torch.device,
    stop_wanted: Callable[[], bool],
    start: Trainable | None = None,
    unfold: Callable[[nn.Module], nn.Module] | None = None,
) -> TrainStep:
    """The training step with everything that it changes, on the device, at the start of the run.

    Args:
        run: the resolved recipe.
        device: that it trains on.
        stop_wanted: has this rank been asked to leave?
        start: the encoder that the run starts from, of `starting_encoder`.
        unfold: gives the backbone the BatchNorms that an export has folded away; the teacher does without.

    Raises:
        ConfigError: a value that cannot be used here.
        CheckpointError: the weights of `config.init_from` do not fit.
    """
    dtype = pick_precision(run.train.precision, run.fp16, device)
    backbone = make_backbone(run, device, start)
    teacher = make_teacher(run, backbone, device)
    if unfold is not None:
        backbone = unfold(backbone)
    moving = Moving(backbone, run.finetune)
    moving.set_modes(backbone)
    criterion = make_criterion(run, device, fp16=dtype == torch.float16)
    optimizer = make_optimizer(run, backbone, criterion)
    keyed = QUEUE_KINDS[run.qgface.queue].keyed
    key_encoder = MomentumEncoder(backbone, run.qgface.key_momentum) if keyed else None
    return TrainStep(
        model=_wrapped(run, backbone, device),
        backbone=backbone,
        criterion=criterion,
        optimizer=optimizer,
        scaler=make_scaler(device, dtype),
        key_encoder=key_encoder,
        teacher=teacher,
        moving=moving,
        device=device,
        dtype=dtype,
        channels_last=run.train.channels_last,
        accumulate=run.gradient_acc,
        clip=run.train.clip_grad,
        stop_wanted=stop_wanted,
    )


def make_teacher(run: Run, backbone: nn.Module, device: torch.device) -> Teacher | None:
    """The frozen teacher where the method asks for one: the encoder that the run starts from, or another one.

    Args:
        run: the resolved recipe.
        backbone: as `config.init_from` has filled it; copied, not changed.
        device: that it runs on.

    Raises:
        ConfigError: its embeddings are of another size.
        CheckpointError: its file cannot be used.
    """
    own = run.finetune.teacher
    if not run.qgface.needs_teacher:
        if own:
            LOGGER.warning(
                "config.qgface.finetune.teacher = %r is not used: teacher_weight is 0, and neither queue nor quality "
                "is 'teacher'", own,
            )  # fmt: skip
        return None
    source = own or run.init_from
    assert source is not None  # Run has checked
    encoder = copy.deepcopy(backbone) if own is None else _another_teacher(own, run, device)
    digest = model_digest(source)
    LOGGER.info("the teacher is %s, frozen (SHA-256 %s)", source, digest)
    return Teacher(encoder, source, digest, device)


def _another_teacher(path: str, run: Run, device: torch.device) -> nn.Module:
    """A teacher of any network that can be loaded, weights or ONNX."""
    model = load_trainable(path)
    if model.size != run.embedding_size:
        raise ConfigError(
            f"config.qgface.finetune.teacher = {path!r} has embeddings of {model.size} numbers, but "
            f"config.embedding_size is {run.embedding_size}: both must be the same"
        )
    return model.backbone.to(  # type: ignore[call-overload] # torch forgets memory_format
        device, memory_format=torch.channels_last if run.train.channels_last else torch.contiguous_format
    )


def check_compiler(run: Run, device: torch.device) -> None:
    """Try torch.compile on a trifle, where the recipe asks for it: it needs a compiler at the first step only.

    Raises:
        ConfigError: it does not work here; says why, and what to do.
    """
    if not run.train.compile:
        return
    from torch._inductor import config as inductor  # seconds that others need not wait

    try:
        with inductor.patch(force_disable_caches=True):
            torch.compile(lambda x: (2 * x + 1).relu().sum())(torch.ones(64, device=device))
    except Exception as error:  # every backend has errors of its own
        needs = "a C++ compiler (g++, or CXX naming another one)"
        if device.type == "cuda":
            needs = f"Triton and {needs}"
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"config.qgface.train.compile is True, but torch.compile does not work here ({reason.strip()}): install "
            f"{needs}, or set it to False"
        ) from error
    finally:
        torch._dynamo.reset()


def _wrapped(run: Run, backbone: nn.Module, device: torch.device) -> nn.Module:
    """What a step calls: the backbone, compiled where the recipe asks for it, synchronised where there are ranks."""
    model = cast(nn.Module, torch.compile(backbone)) if run.train.compile else backbone
    if distributed.world_size() == 1:
        return model
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False, bucket_cap_mb=16)


def open_pair_sets(run: Run) -> list[DecodedPairs]:
    """The verification sets that `config.val_targets` names, `<name>.bin` beside the training data, on rank 0 only.

    Each is read and decoded, and its pairs go through what verification does with them, so that a set which cannot be
    verified is known before the first step and not after the first epoch. A set that is not there is named in the log,
    as arcface_torch passes over it too.

    Raises:
        DataError: a set that cannot be verified; names `config.val_targets` and the file.
    """
    if distributed.rank() or not run.val_targets:
        return []
    roots = [Path(root) for root in ([run.rec] if isinstance(run.rec, str) else run.rec or ())]
    folders = [root if root.is_dir() else root.parent for root in roots]
    sets = []
    for target in run.val_targets:
        file = target if target.endswith(".bin") else f"{target}.bin"
        path = next((folder / file for folder in folders if os.path.lexists(folder / file)), None)
        if path is None:
            LOGGER.warning(
                "no verification on %s: there is no %s in %s; put it there, or take it out of config.val_targets",
                target, file, ", ".join(map(str, folders)),
            )  # fmt: skip
        else:
            sets.append(_open_pairs(path))
    return sets


def _open_pairs(path: Path) -> DecodedPairs:
    try:
        pairs = DecodedPairs.of(read_bin(path))
        check_flags(pairs.same)
    except DataError as error:
        raise DataError(
            f"config.val_targets: {path} cannot be verified: {error}. Mend the set, or take it out of the recipe"
        ) from error
    return pairs

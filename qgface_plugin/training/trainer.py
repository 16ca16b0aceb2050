"""The built-in host: its own training loop, for a machine without an arcface_torch checkout, on a CPU or GPUs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..config import unsupported
from ..config.recipe import Run
from ..data.loader import PairLoader, Prefetcher, batches
from ..data.pair_dataset import PairBatch
from ..data.sources.source import open_source
from ..evaluation.protocols.pair_sets import DecodedPairs, verify
from ..models.momentum_encoder import MomentumEncoder
from ..models.weights import load_backbone
from ..utils import distributed
from ..utils.device import keep_freed_pages, pick_device, pick_precision, seed_everything
from ..utils.errors import Stopped, TrainingError
from ..utils.registry import QUEUE_KINDS
from . import build, run_state
from .checkpoints import run_id
from .checkpoints.store import CheckpointStore
from .lr_schedule import build_schedule
from .preemption import StopWatch, watch_for_stop
from .recorder import RunRecorder
from .step import TrainStep

LOGGER = logging.getLogger(__name__)


def train(run: Run) -> dict[str, Any]:
    """Train as the recipe says and return the last verification results by name of the set.

    Raises ConfigError, DataError or CheckpointError before the first step when something does not fit, TrainingError
    after `max_bad_steps` steps in a row without a finite loss and gradient or when a checkpoint cannot be written, and
    Stopped when SIGTERM asked it to leave and it has saved.
    """
    if run.train.threads:
        torch.set_num_threads(run.train.threads)
    device = pick_device(run.train.device)
    if device.type == "cpu":
        keep_freed_pages()
    with distributed.process_group(device), watch_for_stop() as stop:
        source, run = open_source(run)
        total = build.make_sampler(run).steps_per_epoch * run.num_epoch
        total = min(total, run.train.max_steps or total)
        with RunRecorder(
            run.output,
            distributed.rank(),
            run.as_dict(),
            total,
            frequent=run.frequent,
            quality=run.qgface.quality,
            pair_grid_every=run.train.pair_grid_every,
        ) as recorder:
            return Trainer(run, source, device, recorder, stop).fit()


class Trainer:
    """A run in progress: the parts, the position in the data, and what is saved of them."""

    def __init__(
        self, run: Run, source: Any, device: torch.device, recorder: RunRecorder, stop: StopWatch | None = None
    ) -> None:
        self.run, self.device, self.recorder, self.stop = run, device, recorder, stop or StopWatch()
        rank, ranks = distributed.rank(), distributed.world_size()
        seed_everything(run.seed, rank)
        for line in unsupported.by_the_built_in_loop(run):
            LOGGER.info(line)

        self.dataset = build.make_dataset(run, source)
        self.prefetcher = Prefetcher(device, run.degradation)
        self.steps_per_epoch = build.make_sampler(run).steps_per_epoch
        dtype = pick_precision(run.train.precision, run.fp16, device)
        backbone = build.make_backbone(run, device)
        if run.init_from:
            load_backbone(run.init_from, backbone)
        criterion = build.make_criterion(run, device, fp16=dtype == torch.float16)
        optimizer = build.make_optimizer(run, backbone, criterion)
        self.scheduler = build_schedule(
            optimizer,
            run.train.schedule,
            round(run.warmup_epoch * self.steps_per_epoch),
            run.num_epoch * self.steps_per_epoch,
            [epoch * self.steps_per_epoch for epoch in run.train.milestones],
            run.train.gamma,
        )
        momentum = MomentumEncoder(backbone, run.qgface.key_momentum) if QUEUE_KINDS[run.qgface.queue].keyed else None
        self.step = TrainStep(
            model=self._wrap(backbone),
            backbone=backbone,
            criterion=criterion,
            optimizer=optimizer,
            scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16, growth_interval=100),
            key_encoder=momentum,
            device=device,
            dtype=dtype,
            channels_last=run.train.channels_last,
            accumulate=run.gradient_acc,
            clip=run.train.clip_grad,
            stop_wanted=self.stop.wanted,
        )
        self.global_batch = run.batch_size * ranks
        self.store = CheckpointStore(run.output, rank, ranks, keep=run.train.keep_checkpoints)
        self.pair_sets = [DecodedPairs.of(pairs) for pairs in build.open_pair_sets(run)]
        self.results: dict[str, Any] = {}
        self.run_id = ""
        self.epoch, self.step_in_epoch, self.global_step, self.bad_in_a_row, self.skipped = 0, 0, 0, 0, 0
        LOGGER.info(
            "%d images of %d identities, %d rank(s) on %s, %d steps an epoch",
            len(source), run.num_classes, ranks, device, self.steps_per_epoch,
        )  # fmt: skip
        run_id.begin(self)

    def _wrap(self, backbone: nn.Module) -> nn.Module:
        model = torch.compile(backbone) if self.run.train.compile else backbone
        model.train()
        if distributed.world_size() == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False, bucket_cap_mb=16)

    def fit(self) -> dict[str, Any]:
        """Train to the end of the last epoch, or to `max_steps`."""
        if self._verification_due():  # of the step that the run has resumed after
            self._verify()
        while self.epoch < self.run.num_epoch:
            sampler = build.make_sampler(self.run, self.epoch, self.step_in_epoch)
            with batches(PairLoader(self.dataset, sampler, self.run.num_workers, self.device)) as found:
                for batch in self.prefetcher(found):
                    self._train_on(batch)
                    if self._ends_here():
                        return self.results
        return self.results

    def _train_on(self, batch: PairBatch) -> None:
        self.global_step, self.step_in_epoch = self.global_step + 1, self.step_in_epoch + 1
        self.skipped += batch.skipped
        learning_rate = self.scheduler.get_last_lr()[0]
        good = self.step(batch, self.global_step)
        with warnings.catch_warnings():  # the rate counts steps, also those that only collect gradients
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self.scheduler.step()
        self.bad_in_a_row = 0 if good else self.bad_in_a_row + 1
        if good:
            waited = self.prefetcher.take_waited()
            self.recorder.step(self.global_step, self.epoch, learning_rate, self.step.criterion, batch, waited)
        else:
            self._complain()
        if self.step_in_epoch == self.steps_per_epoch:
            self.epoch, self.step_in_epoch = self.epoch + 1, 0

    def _ends_here(self) -> bool:
        """Save and verify where that is due after a step; True after `max_steps`. Raises Stopped after SIGTERM."""
        train, leaving = self.run.train, self.step.leaving and self.epoch < self.run.num_epoch
        last, epoch_done = self.global_step == train.max_steps, self.step_in_epoch == 0
        if epoch_done and self.skipped:
            LOGGER.warning("%d corrupt images were skipped so far and replaced by others", self.skipped)
        if epoch_done or last or leaving or (train.checkpoint_every and self.global_step % train.checkpoint_every == 0):
            run_state.save(self)
        if leaving:
            raise Stopped(
                f"SIGTERM: stopped and saved after step {self.global_step}; config.resume = True goes on from there"
            )
        if self._verification_due():
            self._verify()
        if last:
            LOGGER.info("stopped after max_steps = %d", self.global_step)
        return last

    def _complain(self) -> None:
        LOGGER.warning(
            "step %d: loss or gradient is not finite; the step is skipped (%d in a row)",
            self.global_step, self.bad_in_a_row,
        )  # fmt: skip
        if self.bad_in_a_row >= self.run.train.max_bad_steps:
            last = self.store.newest if self.store.newest.exists() else "none was saved yet"
            raise TrainingError(
                f"{self.bad_in_a_row} steps in a row without a finite loss and gradient, to step {self.global_step}. "
                f"Last good checkpoint: {last}. Lower config.lr, or lengthen config.warmup_epoch, and resume from it"
            )

    def _verification_due(self) -> bool:
        return self.global_step > 0 and (self.step_in_epoch == 0 or self.global_step % self.run.verbose == 0)

    def _verify(self) -> None:
        """On rank 0, the sets that have no result of this step yet; no further one when there is little time left."""
        with self.recorder.paused():
            for pairs in self.pair_sets:
                done = self.recorder.verified.get(pairs.name)
                if self.stop.wanted() or (done is not None and done["step"] == self.global_step):
                    continue
                result = verify(self.step.backbone, pairs, device=self.device)
                self.results[pairs.name] = result.as_dict()
                self.recorder.verification(pairs.name, self.results[pairs.name], self.global_step)
            distributed.barrier()

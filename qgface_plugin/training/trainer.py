"""Trainer of the built-in loop, for a machine without an arcface_torch checkout, on a CPU or GPUs."""

from __future__ import annotations

import logging
import signal
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, NamedTuple, NoReturn

import torch

from ..config import unsupported
from ..config.recipe import Run
from ..data.loader import PairLoader, Prefetcher, SurplusCount, open_batches
from ..data.pair_batch import PairBatch
from ..data.sources.source import FaceSource, open_source
from ..evaluation.protocols.pair_sets import DecodedPairs
from ..loss.terms import Measured
from ..models.trainable import Trainable
from ..models.weights import export_backbone, read_backbone
from ..utils import distributed
from ..utils.device import keep_freed_pages, pick_device, seed_everything
from ..utils.errors import CheckpointError, Stopped, TrainingError
from ..utils.logs import EarlyLog
from . import build
from .agreement import check_data, check_recipes
from .checkpoints.finite import first_not_finite
from .checkpoints.latest import latest_state
from .checkpoints.run_id import note_run, restarts, run_id
from .checkpoints.store import CheckpointStore
from .class_means import class_means, take_over
from .header import header, next_command
from .output_folder import own_folder, warn_if_nearly_full
from .preemption import NAMES, StopWatch, watch_for_stop
from .recorder import RunRecorder
from .rollback import advice, skip_bad_step
from .run_state import Progress, RunState
from .start import folded_away, starting_encoder, with_batchnorm
from .trackers import check_packages, open_trackers
from .verification import Verification

LOGGER = logging.getLogger(__name__)


def train(run: Run, early: EarlyLog | None = None) -> dict[str, Any]:
    """Train as the recipe says.

    Args:
        run: the resolved recipe.
        early: what has listened to the log so far; training.log begins with its lines.

    Returns:
        The last verification results by name of the set.

    Raises:
        ConfigError, DataError, CheckpointError: before the first step, when something does not fit.
        TrainingError: after `max_bad_steps` steps in a row without a finite loss and gradient, or when a checkpoint
            cannot be written.
        Stopped: SIGTERM, SIGHUP or Ctrl-C asked the run to leave, and it has saved what it has trained.
    """
    if run.train.threads:
        torch.set_num_threads(run.train.threads)
    device = pick_device(run.train.device)
    if device.type == "cpu":
        keep_freed_pages()
    else:
        torch.backends.cudnn.benchmark = True  # every step has the same shapes
    with distributed.process_group(device), watch_for_stop() as stop:
        distributed.ask_when(stop.wanted)
        stop.leave = distributed.leave
        check_recipes(run)  # before the ranks wait for each other, and before anything is written
        with own_folder(run.output):
            return _train(run, device, stop, early)


def _train(run: Run, device: torch.device, stop: StopWatch, early: EarlyLog | None) -> dict[str, Any]:
    """The rest of `train`, in a folder of its own."""
    with stop.at_once("opening the data"):
        source, run = open_source(run)
        run, start = starting_encoder(run)
        distributed.patient_barrier()  # opening may have taken the ranks different times
        check_data(source)
        # what cannot be used is known on all ranks before anything is written
        pair_sets = distributed.on_rank_zero(partial(build.open_pair_sets, run)) or ()
        build.check_compiler(run, device)
        distributed.on_rank_zero(partial(check_packages, run))
        distributed.patient_barrier()
    steps_per_epoch = build.make_sampler(run).steps_per_epoch
    total = steps_per_epoch * run.num_epoch
    total = min(total, run.train.max_steps or total)
    with (
        RunRecorder(
            run.output,
            distributed.rank(),
            run.as_dict(),
            total,
            frequent=run.frequent,
            quality=run.qgface.quality,
            features_bias=run.train.features_bias,
            pair_grid_every=run.train.pair_grid_every,
            steps_per_epoch=steps_per_epoch,
            early=early,
            trackers=partial(open_trackers, run),
        ) as recorder,
        distributed.reasons(),
    ):
        with stop.at_once("building network and class centres"):
            trainer = Trainer(run, source, device, recorder, stop, pair_sets, start)
        return trainer.fit()


class Taken(NamedTuple):
    """A step that has been taken, until it is known whether it was good."""

    global_step: int
    epoch: int
    learning_rate: float
    batch: PairBatch
    waited: float
    measured: Measured


class Trainer:
    """The built-in loop over the steps of a run, with its checkpoints and verification.

    Args:
        run: the resolved recipe.
        source: its faces.
        device: that it trains on.
        recorder: of the run, entered.
        stop: whether the run has been asked to leave.
        pair_sets: to verify on; none on ranks other than 0.
        start: the encoder that the run starts from, of `starting_encoder`.
    """

    def __init__(
        self,
        run: Run,
        source: FaceSource,
        device: torch.device,
        recorder: RunRecorder,
        stop: StopWatch | None = None,
        pair_sets: Sequence[DecodedPairs] = (),
        start: Trainable | None = None,
    ) -> None:
        self.run, self.device, self.recorder, self.stop = run, device, recorder, stop or StopWatch()
        rank, ranks = distributed.rank(), distributed.world_size()
        seed_everything(run.seed, rank)
        for line in unsupported.by_the_built_in_loop(run):
            LOGGER.info(line)
        self.dataset = build.make_dataset(run, source)
        self.prefetcher = Prefetcher(device, run.degradation)
        self.surplus = SurplusCount()
        self.steps_per_epoch = build.make_sampler(run).steps_per_epoch
        unfold = partial(with_batchnorm, run=run, dataset=self.dataset, device=device) if folded_away(run) else None
        self.step = build.make_step(run, device, self.stop.wanted, start, unfold)
        scheduler = build.make_schedule(run, self.step.optimizer, self.steps_per_epoch)
        self.progress = Progress()
        self.state = RunState(self.step, scheduler, self.progress, recorder, run, self.steps_per_epoch)
        self.store = CheckpointStore(run.output, rank, ranks, keep=run.train.keep_checkpoints)
        self.verification = Verification(run, pair_sets, recorder, device)
        self.frozen_steps = round(run.finetune.frozen_epochs * self.steps_per_epoch)
        self._taken: deque[Taken] = deque()  # steps whose verdict is on its way
        self._owed = False  # a checkpoint, since a bad step
        self._unproven: int | None = None  # the step of the latest checkpoint while no good step has followed it
        if rank == 0:
            warn_if_nearly_full(self.store.folder, self.state.saved_bytes() * ranks)
        LOGGER.info(
            "%d images of %d identities, %d rank(s) on %s, %d steps an epoch",
            len(source), run.num_classes, ranks, device, self.steps_per_epoch,
        )  # fmt: skip
        every = run.train.checkpoint_every
        for line in header(
            run,
            ranks=ranks,
            precision=str(self.step.dtype).removeprefix("torch."),
            steps_per_epoch=self.steps_per_epoch,
            saves="after each epoch" + (f" and every {every} steps" if every else ""),
            verifies=f"after each epoch and every {run.verbose} steps",
        ):
            LOGGER.info(line)

    def fit(self) -> dict[str, Any]:
        """Train to the end of the last epoch, or to `max_steps`; the last verification results by name of the set."""
        with self.stop.at_once("resuming"):
            resumed = self.resume()
            if not resumed and self.run.finetune.init_centres == "means":
                self._begin_centres()
        if self._verification_due():  # of the step that the run has resumed after
            self._begin()
            with self.stop.at_once("verifying, before the next step"):
                self.verify()
        if self._finished():
            self._begin()
            done, total = self.progress.global_step, self.recorder.total_steps
            LOGGER.info("nothing to do: step %d of %d is done", done, total)
            for name, line in self.recorder.verified.items():
                LOGGER.info("[%s][%d]Accuracy-Flip: %1.5f+-%1.5f", name, line["step"], line["accuracy"], line["std"])
            return self.recorder.results()
        with self._cut_files_named(), closing(self._batches()) as batches:
            with self.stop.at_once("reading the first batch"):
                batch = next(batches, None)
            self._begin()
            while batch is not None:
                self.train_step(batch)
                saved = self._save_due() and self.save()
                if self._leaving():
                    self._leave(saved)
                if self._verification_due():
                    self.verify()
                if self._last():
                    LOGGER.info("stopped after max_steps = %d", self.progress.global_step)
                    break
                batch = next(batches, None)
        self._tidy_up()
        if self.progress.bad_in_a_row:
            LOGGER.warning("the run ends with %d bad step(s): look at its losses", self.progress.bad_in_a_row)
        self.verification.close()
        self._say_what_is_there()
        return self.recorder.results()

    def _say_what_is_there(self) -> None:
        """The encoder of the run, and the command that goes on from it."""
        model = self.store.folder / "model.pt"
        LOGGER.info("the encoder is %s; next: %s", model, next_command(model))

    def _begin(self) -> None:
        """Write down in the folder that the run has begun, once nothing is left that could be refused or left."""
        note_run(self.run.output, self.state.run_id)
        self.recorder.start()

    def resume(self) -> bool:
        """Name the run, and bring it to where it goes on: the start, or the latest checkpoint.

        With `config.resume` that is the latest usable checkpoint in the folder. Without it a run that torchrun starts
        again after a failure goes on too, but only from what it has saved itself: an earlier run's files may lie there.

        Returns:
            Whether the run goes on from a checkpoint.

        Raises:
            CheckpointError: on all ranks, for checkpoints that do not fit.
        """
        run, state, again = self.run, self.state, max(distributed.gather_objects(restarts()))
        state.run_id = run_id(run.output, new=not (run.resume or again))
        if not run.resume and not again:
            if self.store.latest.exists():
                LOGGER.warning("config.resume is False: what %s holds of an earlier run is replaced", run.output)
            return False
        why = "config.resume is set" if run.resume else f"torchrun has started this run again ({again})"
        queue = self.step.criterion.queue
        assert run.num_classes is not None  # open_source has counted
        saved = latest_state(
            run.output,
            state.run_id,
            num_classes=run.num_classes,
            queue_size=None if queue is None else queue.size,
            queue_slots=0 if queue is None else len(queue.serial),
            only_own=not run.resume,
            check=state.check,
        )
        if saved is None:
            LOGGER.info("%s, but %s holds no checkpoint of it: this run starts anew", why, run.output)
            return False
        if distributed.world_size() > 1 and self._has_moved(saved):
            views = 1 if run.degradation is None else 2
            self.step.settle(torch.zeros(views * run.batch_size, 3, 112, 112, device=self.device))
        state.load_state_dict(saved)
        self.store.go_on_from(self.progress.global_step)
        LOGGER.info("%s: resumed after step %d, in epoch %d", why, self.progress.global_step, self.progress.epoch)
        return True

    def _has_moved(self, saved: Mapping[str, Any]) -> bool:
        """Whether DDP has had a backward pass by then: not while the backbone has only waited."""
        done: int = saved["epoch"] * self.steps_per_epoch + saved["qgface"]["step_in_epoch"]
        return done > self.frozen_steps

    def _begin_centres(self) -> None:
        """Class centres from the encoder that the run starts from."""
        backbone, run = self.step.backbone, self.run
        means = class_means(backbone, self.dataset, run, self.device, self.step.dtype)
        take_over(means, self.step.criterion)

    @contextmanager
    def _cut_files_named(self) -> Iterator[None]:
        """A data worker that was reading a file while it was cut dies of a bus error, which torch cannot explain."""
        try:
            yield
        except RuntimeError as error:
            if "worker" in str(error):
                self.dataset.source.check_size()
            raise

    def _batches(self) -> Generator[PairBatch, None, None]:
        """Batches on the device, from where the run is to the end of its last epoch."""
        while self.progress.epoch < self.run.num_epoch:
            sampler = build.make_sampler(self.run, self.progress.epoch, self.progress.step_in_epoch)
            with open_batches(PairLoader(self.dataset, sampler, self.run.num_workers, self.device)) as batches:
                yield from self.prefetcher(batches)

    def train_step(self, batch: PairBatch) -> None:
        """Train on this rank's batch, record the step, and move on; on a GPU it is recorded one step later.

        Raises:
            TrainingError: too many steps in a row were not finite.
        """
        progress, scheduler, criterion = self.progress, self.state.scheduler, self.step.criterion
        global_step, learning_rate = progress.global_step + 1, float(scheduler.get_last_lr()[-1])
        progress.skipped += batch.skipped
        self.surplus.add(batch)
        self.step.wait(self._position() < self.frozen_steps)
        criterion.looks_at_queue = not self.step.is_late or self.recorder.line_due(global_step)
        good = self.step(batch, global_step)
        with warnings.catch_warnings():  # the rate counts steps, also those that only collect gradients
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            scheduler.step()
        waited = self.prefetcher.take_waited()
        measured = Measured(criterion.terms, criterion.u_views)
        taken = Taken(global_step, progress.epoch, learning_rate, batch, waited, measured)
        if good is None:
            self._taken.append(taken)
            if len(self._taken) > 1:
                self._judge(self._taken.popleft(), self.step.verdict())
        else:
            self._judge(taken, good)
        progress.advance(self.steps_per_epoch)
        if progress.epoch_done and progress.skipped:
            LOGGER.warning("%d corrupt images were skipped so far and replaced by others", progress.skipped)
        if progress.epoch_done:
            self.surplus.end_epoch()

    def _judge(self, taken: Taken, good: bool) -> None:
        """Record a step that was good, and count one that was not."""
        progress = self.progress
        progress.bad_in_a_row = 0 if good else progress.bad_in_a_row + 1
        if good:
            self.recorder.step(
                taken.global_step, taken.epoch, taken.learning_rate, self.step.criterion, taken.batch, taken.waited,
                taken.measured,
            )  # fmt: skip
            self._tidy_up()
        else:
            limit = self.run.train.max_bad_steps
            skip_bad_step("loss or gradient", progress.bad_in_a_row, limit, self._last_good, taken.global_step)

    def _judge_all(self) -> None:
        """What became of the steps that are still on their way; waits for them."""
        while self._taken:
            self._judge(self._taken.popleft(), self.step.verdict())

    def _position(self) -> int:
        """Steps of the data that are done."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.step_in_epoch

    def _last(self) -> bool:
        """Whether `max_steps` are done; a checkpoint may be of a later step, where it has been lowered since."""
        limit = self.run.train.max_steps
        return limit is not None and self.progress.global_step >= limit

    def _finished(self) -> bool:
        """Whether nothing is left to train."""
        return self._last() or self.progress.epoch >= self.run.num_epoch

    def _leaving(self) -> bool:
        """Whether the ranks have agreed to leave, and there is something left to do."""
        return self.step.leaving and not self._finished()

    def _leave(self, saved: bool) -> NoReturn:
        """Raise Stopped, on all ranks of the signal that one of them was sent."""
        number = next((sent for sent in distributed.gather_objects(self.stop.signal) if sent), signal.SIGTERM)
        step, verb = self.progress.global_step, "stopped and saved" if saved else "stopped"
        raise Stopped(f"{NAMES[number]}: {verb} after step {step}; config.resume = True {self._goes_on(saved)}", number)

    def _save_due(self) -> bool:
        """Whether to save now. What falls due in a bad step waits for the next good one, unless the run ends here."""
        every = self.run.train.checkpoint_every
        at_this_step = bool(every) and self.progress.global_step % every == 0
        ends = self._finished() or self._leaving()
        self._owed = self._owed or self.progress.epoch_done or at_this_step or ends
        if self._owed or self._verification_due():
            self._judge_all()
            ends = self._finished() or self._leaving()
        return self._owed and (ends or not self.progress.bad_in_a_row)

    def _verification_due(self) -> bool:
        progress = self.progress
        due = progress.epoch_done or progress.global_step % self.run.verbose == 0 or self._last()
        return due and (progress.global_step > 0 or self.run.verify.before)

    def save(self) -> bool:
        """Write `model.pt` (rank 0) and every rank's checkpoint; `_tidy_up` removes what they supersede.

        Returns:
            False where nothing was saved, on all ranks, because a rank's weights or moments are not finite.

        Raises:
            TrainingError: on all ranks, when one of them cannot save, or for weights that are not finite at the end of
                the run: the files of before are whole then.
        """
        problem, progress = None, self.progress
        with self.recorder.paused():
            state = self.state.state_dict()
            self._owed = False
            names = distributed.gather_objects(first_not_finite(state))
            if unfit := "; ".join(f"{name} of rank {rank} is not finite" for rank, name in enumerate(names) if name):
                LOGGER.warning("step %d: %s: no checkpoint is saved", progress.global_step, unfit)
                if self._finished():
                    raise TrainingError(f"step {progress.global_step}: {unfit}. {self._last_good()}")
                return False
            try:
                if distributed.rank() == 0:
                    export_backbone(self.store.folder / "model.pt", self.step.backbone.state_dict())
                self.store.save(state)
            except (CheckpointError, OSError) as error:
                problem = error
            distributed.raise_first(problem, TrainingError)
            self._unproven = progress.global_step
            self.recorder.saved(self.store.folder / "model.pt")
        return True

    def _tidy_up(self) -> None:
        """Remove what the latest checkpoint supersedes, once a good step has followed it, or none is to come."""
        if self._unproven is not None and not self.progress.bad_in_a_row:
            self.store.prune(self.state.run_id)
            self._unproven = None

    def _goes_on(self, saved: bool) -> str:
        """Where a run that has left will go on."""
        if saved and not self.progress.bad_in_a_row:
            return "goes on from there"
        good = self.store.good_ones(self.state.run_id)
        if good:
            return f"goes on from step {good[0].step}, the last good one that is saved"
        return "goes on from there" if saved else "starts anew: no good step is saved"

    def _last_good(self) -> str:
        """What to do about a run that has diverged, and with which checkpoint.

        The one that was saved just before the first bad step may be what has gone wrong: where there is another good
        one it is set aside, so that a resumed run goes on from the other one.
        """
        try:
            good = self.store.good_ones(self.state.run_id)
            followed = not good or good[0].step != self._unproven
            if followed or len(good) == 1:
                return advice(good[0].path if good else None, followed)
            aside = self.store.retract(good[0], good[1])
            LOGGER.warning("no good step has followed step %d: its checkpoint is %s now", good[0].step, aside)
            if distributed.rank() == 0:
                export_backbone(self.store.folder / "model.pt", read_backbone(self.store.latest))
        except (CheckpointError, OSError) as error:  # what has ended the run is what to tell
            LOGGER.warning("%s", error)
        return advice(self.store.latest)

    def verify(self) -> None:
        """Verify on the sets that have no result of this step yet, on rank 0; none further when time is short."""
        with self.recorder.paused():
            step = self.progress.global_step
            work = partial(self.verification, self.step.backbone, step, self.stop.wanted)
            distributed.on_rank_zero(work)

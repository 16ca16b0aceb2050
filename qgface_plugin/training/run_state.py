"""State of a run: its position in the data, what a checkpoint holds of it, and whether both belong together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ..config.recipe import difference
from ..config.run import TRACKING, Run
from ..utils import distributed
from ..utils.device import seed_everything
from ..utils.errors import CheckpointError
from .checkpoints import contents
from .checkpoints.parameters import names_of, pending_gradients, restore, restored_gradients
from .checkpoints.rng import restore_rng, rng_state
from .lr_schedule import move_to
from .recorder import RunRecorder
from .step import TrainStep

LOGGER = logging.getLogger(__name__)
MUST_AGREE = ("network", "embedding_size", "num_classes", "sample_rate", "optimizer", "seed", "qgface")
MUST_AGREE_IN = {"train": ("features_bias",), "finetune": ("freeze", "batchnorm")}
OF_A_START = frozenset(("resume", "output", "host", "name", "notes", "imports", "init_from", *TRACKING))
"""Settings that change nothing that is trained."""
EXTRA = frozenset(
    ("run_id", "step_in_epoch", "bad_in_a_row", "skipped", "world_size", "global_batch", "gradients", "rng", "scaler")
    + ("key_encoder", "record", "recipe")
)


@dataclass
class Progress:
    """Position of a run in its data, and what was amiss on the way.

    Attributes:
        epoch: from 0.
        step_in_epoch: steps of this epoch that are done.
        global_step: steps that are done in all.
        skipped: corrupt images that were replaced.
        bad_in_a_row: latest steps without a finite loss and gradient.

    Example:
        >>> progress = Progress()
        >>> for _ in range(3):
        ...     progress.advance(steps_per_epoch=2)
        >>> progress
        Progress(epoch=1, step_in_epoch=1, global_step=3, skipped=0, bad_in_a_row=0)
    """

    epoch: int = 0
    step_in_epoch: int = 0
    global_step: int = 0
    skipped: int = 0
    bad_in_a_row: int = 0

    def advance(self, steps_per_epoch: int) -> None:
        """One step more is done."""
        self.global_step, self.step_in_epoch = self.global_step + 1, self.step_in_epoch + 1
        self._wrap(steps_per_epoch)

    def _wrap(self, steps_per_epoch: int) -> None:
        if self.step_in_epoch >= steps_per_epoch:
            self.epoch, self.step_in_epoch = self.epoch + 1, 0

    @property
    def epoch_done(self) -> bool:
        """Whether the latest step was the last of its epoch; also before the first one."""
        return self.step_in_epoch == 0

    def load(self, saved: Mapping[str, Any], global_batch: int, steps_per_epoch: int) -> None:
        """Take over a checkpoint's position.

        The order of the images does not depend on the global batch, so the position in them is kept; where the two
        sizes do not meet, fewer than a global batch of images is seen twice.

        Args:
            saved: the checkpoint.
            global_batch, steps_per_epoch: of this run.
        """
        extra = saved["qgface"]
        self.epoch, self.global_step = saved["epoch"], saved["global_step"]
        self.skipped, self.bad_in_a_row = extra["skipped"], 0  # the limit of bad steps in a row is for each start
        self.step_in_epoch, before = extra["step_in_epoch"], extra["global_batch"]
        if before != global_batch:
            self.step_in_epoch = self.step_in_epoch * before // global_batch
            LOGGER.warning(
                "the global batch was %d images and is %d now; training goes on at the same image, with config.lr as "
                "the recipe has it: set config.batch_size to keep the global batch, or config.lr to go with the new "
                "one",
                before, global_batch,
            )  # fmt: skip
        self._wrap(steps_per_epoch)


@dataclass
class RunState:
    """Everything of this rank that a checkpoint keeps, with torch's `state_dict` and `load_state_dict`.

    Attributes:
        step: weights, optimiser, scaler, momentum encoder.
        scheduler: of the learning rate, from `lr_schedule.build_schedule`.
        progress: the position in the data.
        recorder: what the next line of the log already holds.
        run: the resolved recipe.
        steps_per_epoch: global steps per epoch of this run.
        run_id: name of the run, the same on all ranks.
    """

    step: TrainStep
    scheduler: LambdaLR
    progress: Progress
    recorder: RunRecorder
    run: Run
    steps_per_epoch: int
    run_id: str = ""

    @property
    def global_batch(self) -> int:
        """Images per step over all ranks."""
        return self.run.batch_size * distributed.world_size()

    def state_dict(self) -> dict[str, Any]:
        """The state of this rank under arcface_torch's keys, what it has no key for under `qgface`."""
        step, progress = self.step, self.progress
        return {
            "epoch": progress.epoch,
            "global_step": progress.global_step,
            "state_dict_backbone": step.backbone.state_dict(),
            "state_dict_softmax_fc": step.criterion.state_dict(),
            "state_optimizer": step.optimizer.state_dict(),
            "state_lr_scheduler": self.scheduler.state_dict(),
            "qgface": {
                "run_id": self.run_id,
                "step_in_epoch": progress.step_in_epoch,
                "bad_in_a_row": progress.bad_in_a_row,
                "skipped": progress.skipped,
                "world_size": distributed.world_size(),
                "global_batch": self.global_batch,
                "gradients": pending_gradients(step.backbone, step.criterion),
                "rng": rng_state(),
                "scaler": step.scaler.state_dict(),
                "key_encoder": step.key_encoder.state_dict() if step.key_encoder is not None else None,
                "record": self.recorder.state_dict(),
                "recipe": self.run.as_dict(),
                "names": names_of(step.backbone, step.criterion, step.optimizer),
                "rank": distributed.rank(),
                "classes": [step.criterion.class_start, step.criterion.num_local],
                **({} if step.teacher is None else {"teacher": [step.teacher.source, step.teacher.digest]}),
            },
        }

    def check(self, saved: Mapping[str, Any]) -> None:
        """Check that a state is this run's, and every field of it; nothing is changed.

        Raises:
            CheckpointError: the state is another run's or rank's, or no state; its message names the differences.
        """
        where = str(self.recorder.folder)
        try:
            extra, step = saved["qgface"], self.step
            check_same_run(extra, self.run.as_dict(), where)
            if step.teacher is not None:
                contents.check_teacher(extra.get("teacher"), (step.teacher.source, step.teacher.digest))
            contents.check_counters(saved)
            criterion = step.criterion
            contents.check_share(extra, distributed.rank(), (criterion.class_start, criterion.num_local))
            contents.check_module(saved["state_dict_backbone"], step.backbone, "state_dict_backbone")
            contents.check_module(saved["state_dict_softmax_fc"], criterion, "state_dict_softmax_fc")
            contents.check_queue(
                saved["state_dict_softmax_fc"], criterion.queue, criterion.num_local, "state_dict_softmax_fc"
            )
            if step.key_encoder is not None:
                contents.check_module(extra["key_encoder"], step.key_encoder, "qgface.key_encoder")
            contents.check_scaler(extra["scaler"])
            contents.check_record(extra["record"])
            contents.check_rng(extra["rng"])
            self._restored(saved)
        except Exception as error:  # also of a value whose type nobody has thought of
            if isinstance(error, CheckpointError) and where in str(error):
                raise
            reason = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"the checkpoint in {where} cannot be resumed from: {reason}. Set config.output to a new folder, or "
                "config.init_from to start from its weights"
            ) from error

    def _restored(
        self, saved: Mapping[str, Any]
    ) -> tuple[dict[int, dict[str, Any]], list[tuple[nn.Parameter, Tensor | None]]]:
        """The optimiser's state and the pending gradients, laid out as the parameters are; nothing is changed."""
        step, extra = self.step, saved["qgface"]
        names, own = contents.check_names(extra.get("names")), names_of(step.backbone, step.criterion, step.optimizer)
        of_optimizer = None if names is None else names["optimizer"]
        return (
            restore(step.optimizer, saved["state_optimizer"], own["optimizer"], of_optimizer),
            restored_gradients(extra["gradients"], step.backbone, step.criterion, names),
        )

    def saved_bytes(self) -> int:
        """About how many bytes a checkpoint of this rank has: weights, moments, queue, momentum encoder, model.pt."""
        step, moments = self.step, 2 if self.run.optimizer == "adamw" else 1
        modules = [module for module in (step.backbone, step.criterion, step.key_encoder) if module is not None]
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        trained = [p for module in (step.backbone, step.criterion) for p in module.parameters() if p.requires_grad]
        model = [*step.backbone.parameters()]
        return sum(t.nbytes for t in tensors + model) + moments * sum(p.nbytes for p in trained)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, to the last bit where nothing has changed.

        Rates and weight decay are the recipe's.

        Raises:
            CheckpointError: as `check`; then nothing has been changed.
        """
        self.check(saved)
        extra, step, progress, run = saved["qgface"], self.step, self.progress, self.run
        now = {key: value for key, value in run.as_dict().items() if key not in OF_A_START}
        for line in difference({key: as_now(extra["recipe"])[key] for key in now}, now):
            LOGGER.info("the recipe has changed since the checkpoint: %s", line)
        for line in gone_from(extra["recipe"]):
            LOGGER.warning("the checkpoint's recipe has a key that this version does not have: %s", line)
        state, gradients = self._restored(saved)
        step.backbone.load_state_dict(saved["state_dict_backbone"])
        step.criterion.load_state_dict(saved["state_dict_softmax_fc"])
        groups = step.optimizer.state_dict()["param_groups"]
        step.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if extra["scaler"]:  # empty where there was none
            step.scaler.load_state_dict(extra["scaler"])
        if step.key_encoder is not None:
            step.key_encoder.load_state_dict(extra["key_encoder"])
        for parameter, gradient in gradients:
            parameter.grad = gradient

        progress.load(saved, self.global_batch, self.steps_per_epoch)
        done = progress.epoch * self.steps_per_epoch + progress.step_in_epoch
        move_to(self.scheduler, done)
        self.run_id = extra["run_id"]
        left = run.num_epoch * self.steps_per_epoch - done
        self.recorder.total_steps = min(progress.global_step + left, run.train.max_steps or sys.maxsize)
        self.recorder.resume(progress.global_step, extra["record"])
        if extra["rng"] is not None:
            restore_rng(extra["rng"])
        else:  # saved by another number of ranks: new draws, and not those of the run's first steps again
            seed_everything(run.seed + progress.global_step, distributed.rank())


def check_same_run(extra: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Refuse a checkpoint whose network, data or method differ.

    Args:
        extra: the checkpoint's `qgface`.
        now: the recipe, as a mapping.
        where: the folder of the checkpoint.

    Raises:
        CheckpointError: naming what is missing or differs.
    """
    if absent := sorted(EXTRA - extra.keys()):
        raise CheckpointError(
            f"the checkpoint in {where} lacks {', '.join(absent)}: another version has saved it. Set config.init_from "
            "to it to start from its weights, and config.output to a new folder"
        )
    then = as_now(extra["recipe"])
    clashes = difference(_must_agree(then), _must_agree(now)) + _renumbered(then, now)
    if clashes:
        raise CheckpointError(
            f"the checkpoint in {where} is of another recipe: {'; '.join(clashes)}. Set config.output to a new folder, "
            "or config.init_from to start from its weights"
        )


def _renumbered(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What gives the identities of several folders other labels: the label spaces, or the order of separate ones."""
    folders = [recipe["rec"] if isinstance(recipe["rec"], list) else [] for recipe in (then, now)]
    spaces = [recipe["data"]["label_spaces"] for recipe in (then, now)]
    if len(folders[0]) < 2 or len(folders[1]) < 2:
        return []
    if spaces[0] != spaces[1]:
        return [f"data.label_spaces: {spaces[0]!r} in the checkpoint, {spaces[1]!r} in the recipe"]
    names = [[Path(folder).name for folder in given] for given in folders]  # the paths may be another host's
    if spaces[0] == "separate" and names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
        return [f"rec: {names[0]!r} in the checkpoint, {names[1]!r} in the recipe, and labels follow that order"]
    return []


def as_now(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A saved recipe as this version has recipes: keys that it lacks are their defaults, keys that are gone left out.

    Example:
        >>> as_now({"lr": 0.2, "gone": 1})["lr"], as_now({})["lr"], "gone" in as_now({"gone": 1})
        (0.2, 0.1, False)
    """
    return _filled(recipe, Run().as_dict())


def _filled(values: Any, defaults: Any) -> Any:
    if not isinstance(values, Mapping) or not isinstance(defaults, Mapping):
        return values
    return {key: _filled(values[key], default) if key in values else default for key, default in defaults.items()}


def gone_from(recipe: Mapping[str, Any]) -> list[str]:
    """The keys of a saved recipe that this version no longer has, with their values.

    Example:
        >>> gone_from({"lr": 0.2, "old": 1, "qgface": {"older": "a"}})
        ['old = 1', "qgface.older = 'a'"]
    """
    return _gone(recipe, Run().as_dict(), "")


def _gone(values: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> list[str]:
    found = []
    for key, value in sorted(values.items()):
        if key not in known:
            found.append(f"{prefix}{key} = {value!r}")
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            found += _gone(value, known[key], f"{prefix}{key}.")
    return found


def _must_agree(recipe: Mapping[str, Any]) -> dict[str, Any]:
    groups = {group: recipe[group] if isinstance(recipe[group], Mapping) else {} for group in MUST_AGREE_IN}
    return {
        **{key: recipe[key] for key in MUST_AGREE},
        **{group: {key: groups[group].get(key) for key in keys} for group, keys in MUST_AGREE_IN.items()},
    }

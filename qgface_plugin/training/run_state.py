"""What a checkpoint holds of a run, and whether a checkpoint and a recipe belong together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..config.recipe import difference
from ..models.weights import export_backbone
from ..utils import distributed
from ..utils.device import seed_everything
from ..utils.errors import CheckpointError, TrainingError
from .checkpoints.rng import restore_rng, rng_state
from .lr_schedule import move_to

if TYPE_CHECKING:
    from .trainer import Trainer

LOGGER = logging.getLogger(__name__)
MUST_AGREE = ("network", "embedding_size", "num_classes", "sample_rate", "optimizer", "seed", "qgface")
EXTRA = frozenset(
    ("run_id", "step_in_epoch", "bad_in_a_row", "skipped", "world_size", "global_batch", "gradients", "rng", "scaler")
    + ("key_encoder", "record", "recipe")
)


def collect(trainer: Trainer) -> dict[str, Any]:
    """The state of this rank under arcface_torch's keys, what it has no key for under `qgface`."""
    step = trainer.step
    return {
        "epoch": trainer.epoch,
        "global_step": trainer.global_step,
        "state_dict_backbone": step.backbone.state_dict(),
        "state_dict_softmax_fc": step.criterion.state_dict(),
        "state_optimizer": step.optimizer.state_dict(),
        "state_lr_scheduler": trainer.scheduler.state_dict(),
        "qgface": {
            "run_id": trainer.run_id,
            "step_in_epoch": trainer.step_in_epoch,
            "bad_in_a_row": trainer.bad_in_a_row,
            "skipped": trainer.skipped,
            "world_size": distributed.world_size(),
            "global_batch": trainer.global_batch,
            "gradients": _pending(step.backbone, step.criterion),
            "rng": rng_state(),
            "scaler": step.scaler.state_dict(),
            "key_encoder": step.key_encoder.state_dict() if step.key_encoder is not None else None,
            "record": trainer.recorder.state_dict(),
            "recipe": trainer.run.as_dict(),
        },
    }


def save(trainer: Trainer) -> None:
    """Write `model.pt` (rank 0) and every rank's checkpoint; what they supersede is removed once all have saved.

    Raises TrainingError, on all ranks, when one of them cannot: the files of before are whole then.
    """
    problem = None
    with trainer.recorder.paused():
        try:
            if distributed.rank() == 0:
                export_backbone(trainer.store.folder / "model.pt", trainer.step.backbone.state_dict())
            trainer.store.save(collect(trainer))
        except CheckpointError as error:
            problem = str(error)
        for found in distributed.gather_objects(problem):
            if found is not None:
                raise TrainingError(found)
        trainer.store.prune(trainer.run_id)


def restore(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Continue from what `collect` returned, to the last bit where nothing has changed.

    Rates and weight decay are the recipe's. Raises CheckpointError, naming the differences, for another run's state.
    """
    extra, step = saved["qgface"], trainer.step
    check_same_run(extra, trainer.run.as_dict(), str(trainer.store.folder))
    step.backbone.load_state_dict(saved["state_dict_backbone"])
    step.criterion.load_state_dict(saved["state_dict_softmax_fc"])
    groups = step.optimizer.state_dict()["param_groups"]
    step.optimizer.load_state_dict({"state": saved["state_optimizer"]["state"], "param_groups": groups})
    step.scaler.load_state_dict(extra["scaler"])
    if step.key_encoder is not None:
        step.key_encoder.load_state_dict(extra["key_encoder"])
    for module, gradients in zip((step.backbone, step.criterion), _gradients(extra), strict=True):
        for parameter, gradient in zip(module.parameters(), gradients, strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)

    trainer.global_step, trainer.bad_in_a_row = saved["global_step"], extra["bad_in_a_row"]
    trainer.skipped = extra["skipped"]
    trainer.epoch, trainer.step_in_epoch = _position(trainer, saved["epoch"], extra)
    left = (trainer.run.num_epoch - trainer.epoch) * trainer.steps_per_epoch - trainer.step_in_epoch
    trainer.recorder.total_steps = min(trainer.global_step + left, trainer.run.train.max_steps or sys.maxsize)
    move_to(trainer.scheduler, trainer.epoch * trainer.steps_per_epoch + trainer.step_in_epoch)
    trainer.run_id = extra["run_id"]
    trainer.store.go_on_from(trainer.global_step)
    trainer.recorder.resume(trainer.global_step, extra["record"])
    trainer.results = trainer.recorder.results()
    if extra["rng"] is not None:
        restore_rng(extra["rng"])
    else:  # saved by another number of ranks: new draws, and not those of the run's first steps again
        seed_everything(trainer.run.seed + trainer.global_step, distributed.rank())


def check_same_run(extra: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Refuse a checkpoint whose network, data or method differ; log what else has changed in the recipe."""
    if absent := sorted(EXTRA - extra.keys()):
        raise CheckpointError(
            f"the checkpoint in {where} lacks {', '.join(absent)}: another version has saved it. Set config.init_from "
            "to it to start from its weights, and config.output to a new folder"
        )
    then = extra["recipe"]
    clashes = difference({key: then.get(key) for key in MUST_AGREE}, {key: now.get(key) for key in MUST_AGREE})
    if clashes:
        raise CheckpointError(
            f"the checkpoint in {where} is of another recipe: {'; '.join(clashes)}. Set config.output to a new folder, "
            "or config.init_from to start from its weights"
        )
    for line in difference(then, now):
        LOGGER.info("the recipe has changed since the checkpoint: %s", line)


def _position(trainer: Trainer, epoch: int, extra: Mapping[str, Any]) -> tuple[int, int]:
    """Epoch and step in it. The order of the images does not depend on the global batch, so the position in them is
    kept; where the two sizes do not meet, fewer than a global batch of images is seen twice."""
    before, now, step = extra["global_batch"], trainer.global_batch, extra["step_in_epoch"]
    if before != now:
        step = step * before // now
        LOGGER.warning(
            "the global batch was %d images and is %d now; training goes on at the same image, with config.lr as the "
            "recipe has it: set config.batch_size to keep the global batch, or config.lr to go with the new one",
            before, now,
        )  # fmt: skip
    return (epoch, step) if step < trainer.steps_per_epoch else (epoch + 1, 0)


def _pending(*modules: nn.Module) -> dict[str, list[Tensor | None]] | None:
    """The gradients that wait for an update (gradient_acc); None when none do."""
    found = [[parameter.grad for parameter in module.parameters()] for module in modules]
    if all(gradient is None for gradients in found for gradient in gradients):
        return None
    return dict(zip(("backbone", "criterion"), found, strict=True))


def _gradients(extra: Mapping[str, Any]) -> tuple[list[Tensor | None], list[Tensor | None]]:
    pending = extra["gradients"]
    return ([], []) if pending is None else (pending["backbone"], pending["criterion"])

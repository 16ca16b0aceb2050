"""What a checkpoint holds of a run, and whether a checkpoint and a recipe belong together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import distributed
from ..errors import CheckpointError
from ..recipe import difference
from .rng import restore_rng, rng_state

if TYPE_CHECKING:
    from .builtin import Trainer

LOGGER = logging.getLogger(__name__)
MUST_AGREE = ("network", "embedding_size", "num_classes", "batch_size", "sample_rate", "optimizer", "seed", "qgface")


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
            "step_in_epoch": trainer.step_in_epoch,
            "bad_in_a_row": trainer.bad_in_a_row,
            "skipped": trainer.skipped,
            "world_size": distributed.world_size(),
            "rng": rng_state(),
            "scaler": step.scaler.state_dict(),
            "key_encoder": step.key_encoder.state_dict() if step.key_encoder is not None else None,
            "recipe": trainer.run.as_dict(),
        },
    }


def restore(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Continue from what `collect` returned. Raises CheckpointError, naming the differences, for another run's."""
    if "qgface" not in saved:
        raise CheckpointError(
            f"{trainer.store.newest} was not saved by the built-in host: set config.init_from to it to start from its "
            "weights, and config.output to a new folder"
        )
    extra, step = saved["qgface"], trainer.step
    check_same_run(extra, trainer.run.as_dict(), str(trainer.store.newest))
    step.backbone.load_state_dict(saved["state_dict_backbone"])
    step.criterion.load_state_dict(saved["state_dict_softmax_fc"])
    step.optimizer.load_state_dict(saved["state_optimizer"])
    trainer.scheduler.load_state_dict(saved["state_lr_scheduler"])
    step.scaler.load_state_dict(extra["scaler"])
    if step.key_encoder is not None:
        step.key_encoder.load_state_dict(extra["key_encoder"])
    trainer.epoch, trainer.global_step = saved["epoch"], saved["global_step"]
    trainer.step_in_epoch, trainer.bad_in_a_row = extra["step_in_epoch"], extra["bad_in_a_row"]
    trainer.skipped = extra["skipped"]
    restore_rng(extra["rng"])


def check_same_run(extra: Mapping[str, Any], now: Mapping[str, Any], path: str) -> None:
    """Refuse a checkpoint whose ranks, network, data or method differ; log what else has changed in the recipe."""
    then = extra["recipe"]
    if extra["world_size"] != distributed.world_size():
        raise CheckpointError(
            f"{path} was saved by {extra['world_size']} rank(s), this run has {distributed.world_size()}: resume with "
            "as many ranks"
        )
    clashes = difference({key: then.get(key) for key in MUST_AGREE}, {key: now.get(key) for key in MUST_AGREE})
    if clashes:
        raise CheckpointError(
            f"{path} is of another recipe: {'; '.join(clashes)}. Set config.output to a new folder, or "
            "config.init_from to start from its weights"
        )
    for line in difference(then, now):
        LOGGER.info("the recipe has changed since the checkpoint: %s", line)

"""How a run goes on from its newest checkpoint: when the recipe says so, or when torchrun has started it again."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...utils import distributed
from .. import run_state
from .latest import newest_state

if TYPE_CHECKING:
    from ..trainer import Trainer

LOGGER = logging.getLogger(__name__)
RUN_FILE = "run.json"  # which run the folder belongs to now, for processes that torchrun starts again


def begin(trainer: Trainer) -> None:
    """Name the run, and bring `trainer` to where it goes on: the start, or the newest checkpoint.

    With `config.resume` that is the newest usable checkpoint in the folder. Without it a run that torchrun starts
    again after a failure goes on too, but only from what it has saved itself: an earlier run's files may lie there.
    Raises CheckpointError on all ranks for checkpoints that do not fit.
    """
    run, again = trainer.run, max(distributed.gather_objects(restarts()))
    trainer.run_id = run_id(run.output, new=not (run.resume or again))
    if not run.resume and not again:
        if trainer.store.newest.exists():
            LOGGER.warning("config.resume is False: what %s holds of an earlier run is replaced", run.output)
        return
    why = "config.resume is set" if run.resume else f"torchrun has started this run again ({again})"
    queue = trainer.step.criterion.queue
    saved = newest_state(
        run.output,
        trainer.run_id,
        num_classes=run.num_classes,
        queue_size=None if queue is None else queue.size,
        queue_slots=0 if queue is None else len(queue.serial),
        only_own=not run.resume,
    )
    if saved is None:
        LOGGER.info("%s, but %s holds no checkpoint of it: this run starts anew", why, run.output)
        return
    if distributed.world_size() > 1:
        views = 1 if run.degradation is None else 2
        trainer.step.settle(torch.zeros(views * run.batch_size, 3, 112, 112, device=trainer.device))
    run_state.restore(trainer, saved)
    if distributed.rank() == 0:
        note_run(run.output, trainer.run_id)
    LOGGER.info("%s: resumed after step %d, in epoch %d", why, trainer.global_step, trainer.epoch)


def restarts(environ: Mapping[str, str] = os.environ) -> int:
    """How often torchrun has started this run again after a failure (TORCHELASTIC_RESTART_COUNT); 0 without it."""
    return int(environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def run_id(folder: str | Path, *, new: bool) -> str:
    """The name of the run that `folder` belongs to, the same on all ranks. Rank 0 makes one up and notes it in
    `run.json` when a `new` run begins, or where there is none."""
    path, name = Path(folder) / RUN_FILE, ""
    if distributed.rank() == 0:
        try:
            name = "" if new else str(json.loads(path.read_text(encoding="utf-8"))["id"])
        except (OSError, ValueError, KeyError, TypeError):
            name = ""
        if not name:
            name = uuid.uuid4().hex
            note_run(folder, name)
    return distributed.gather_objects(name)[0]


def note_run(folder: str | Path, name: str) -> None:
    """Write down that `folder` belongs to run `name`."""
    path = Path(folder) / RUN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps({"id": name}) + "\n", encoding="utf-8")
    os.replace(temporary, path)

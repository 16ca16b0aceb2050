"""Step log beside a checkout's own records: `StepLog` with the checkout's TensorBoard writer, and recipe.json."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from ..config.run import Run
from ..training.step_log import StepLog, write_recipe
from .wandb_run import opened_by_the_script


def checkout_log(
    run: Run, writer: SummaryWriter | None, frequent: int, start_step: int, steps_per_epoch: int = 0
) -> StepLog:
    """The log of a recipe's steps in a checkout, for rank 0.

    Args:
        run: the resolved recipe; recipe.json is written into its output folder.
        writer: the checkout's, or None for none.
        frequent: global steps from line to line.
        start_step: global steps that are done already.
        steps_per_epoch: for a grid of pairs at the end of each epoch; 0: none then.
    """
    write_recipe(Path(run.output), run.as_dict())
    return StepLog(
        run.output,
        writer,
        frequent,
        start_step=start_step,
        quality=run.qgface.quality,
        features_bias=run.train.features_bias,
        pair_grid_every=run.train.pair_grid_every,
        steps_per_epoch=steps_per_epoch,
        trackers=[*opened_by_the_script(run)],
    )

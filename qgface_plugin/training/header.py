"""Header of a run's log: what is trained, on how much, and when it saves and verifies, in a few lines."""

from __future__ import annotations

from pathlib import Path

from ..config.degradation import OURS
from ..config.run import Run


def next_command(model: Path) -> str:
    """The command that evaluates an encoder, with what the reader has to fill in.

    Example:
        >>> next_command(Path("model.pt"))
        'qgface eval-pairs --model model.pt --data FOLDER_OF_BIN_FILES'
    """
    return f"qgface eval-pairs --model {model} --data FOLDER_OF_BIN_FILES"


def header(run: Run, *, ranks: int, precision: str, steps_per_epoch: int, saves: str, verifies: str) -> list[str]:
    """The lines, for people; every setting is in recipe.json.

    Args:
        run: the resolved recipe, with the counts of its data.
        ranks: processes.
        precision: of the backbone's arithmetic, "float32".
        steps_per_epoch: global steps.
        saves: when checkpoints are written, in words.
        verifies: when the sets of the recipe are verified, in words.

    Example:
        >>> words = dict(precision="float32", saves="after each epoch", verifies="after each epoch")
        >>> header(Run(num_classes=9), ranks=2, steps_per_epoch=7, **words)[0]
        'margin adaface, m 0.4, s 64; quality norm, b 0.2; queue proxy of 9 entries; degradation ours'
    """
    method, batch = run.qgface, run.batch_size
    threshold = f"b {method.b:g}" if method.b_quantile is None else f"b at the quantile {method.b_quantile:g}"
    queue = "no queue" if method.queue == "none" else f"queue {method.queue}"
    if method.queue not in ("none", "batch"):
        queue += f" of {method.queue_size or run.num_classes} entries"
    views = (
        "single views"
        if run.degradation is None
        else f"degradation {'ours' if run.degradation == OURS else 'of the recipe'}"
    )
    counted = f"{batch} images on each of {ranks} ranks" if ranks > 1 else f"{batch} images"
    seen = "" if run.degradation is None else ", each seen twice"
    classes = f"{run.num_classes} classes" + (f", {run.sample_rate:g} of them sampled" if run.sample_rate < 1 else "")
    targets = f"verifies on {', '.join(run.val_targets)} {verifies}" if run.val_targets else "verifies on no set"
    return [
        f"margin {method.margin}, m {method.m:g}, s {method.s:g}; quality {method.quality}, {threshold}; {queue}; "
        f"{views}",
        f"{run.network} in {precision}; {classes}; a step has {counted}{seen}; {steps_per_epoch} steps an epoch, "
        f"{run.num_epoch} epochs",
        f"saves {saves}; {targets}; all settings are in {run.output}/recipe.json",
    ]

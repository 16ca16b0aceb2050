"""Settings of a recipe that the built-in loop, or an arcface_torch checkout, does not act upon; named in the log.

A key that the recipe does not set, or sets to "off", asks for nothing and is not named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .options import TrainOptions
from .run import Run

_OURS = {  # what QGFace does in the place of these keys of arcface_torch, in both trainers
    "margin_list": "the margin comes from config.qgface.margin and config.qgface.m",
    "interclass_filtering_threshold": "QGFace drops no negatives",
    "dali": "QGFace reads the data itself",
    "dali_aug": "the augmentation is config.qgface.degradation",
}
_LOGGER = ("using_wandb", "save_artifacts")
_LOGGER_DETAILS = (
    "wandb_key", "suffix_run_name", "wandb_entity", "wandb_project", "wandb_log_all", "wandb_resume",
)  # fmt: skip
_BUILT_IN_ONLY = ("device", "compile", "clip_grad", "max_steps", "checkpoint_every", "keep_checkpoints")


def by_the_built_in_loop(run: Run) -> list[str]:
    """One line for each key of arcface_torch that asks for something that the built-in loop does not do."""
    why = "the built-in loop logs to TensorBoard and files only"
    logger = _LOGGER + (_LOGGER_DETAILS if run.using_wandb else ())
    lines = [*_lines(run, _OURS.items()), *_lines(run, ((key, why) for key in logger))]
    if "save_all_states" in run.set_keys and not run.save_all_states:
        lines.append(
            "config.save_all_states = False has no effect here: the built-in loop always saves what a resume needs"
        )
    return lines


def by_a_checkout(run: Run) -> list[str]:
    """One line for each setting that asks for something that an arcface_torch checkout's loop does not do."""
    defaults, lines = TrainOptions(), _lines(run, _OURS.items())
    there = "has no effect in a checkout's loop"
    for key in _BUILT_IN_ONLY:
        if (value := getattr(run.train, key)) != getattr(defaults, key):
            lines.append(f"config.qgface.train.{key} = {value!r} {there}")
    if run.train.precision == "bfloat16":
        lines.append(f"config.qgface.train.precision = 'bfloat16' {there}: it has float16 only")
    return lines


def _lines(run: Run, reasons: Iterable[tuple[str, str]]) -> list[str]:
    def found() -> Iterator[str]:
        for key, why in reasons:
            value = getattr(run, key)
            if key in run.set_keys and value:
                shown = "(set)" if key == "wandb_key" else repr(value)  # a secret
                yield f"config.{key} = {shown} has no effect here: {why}"

    return list(found())

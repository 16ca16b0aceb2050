"""Settings of a recipe that the built-in loop, or an arcface_torch checkout, does not act upon; named in the log.

A key that the recipe does not set, or sets to "off", asks for nothing and is not named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..utils.errors import ConfigError
from .options import FinetuneOptions, TrainOptions, VerifyOptions
from .run import Run

_OURS = {  # what QGFace does in the place of these keys of arcface_torch, in both trainers
    "margin_list": "the margin comes from config.qgface.margin and config.qgface.m",
    "interclass_filtering_threshold": "QGFace drops no negatives",
    "dali": "QGFace reads the data itself",
    "dali_aug": "the augmentation is config.qgface.degradation",
}
_BUILT_IN_ONLY = (
    "device",
    "compile",
    "checkpoint_activations",
    "clip_grad",
    "max_steps",
    "checkpoint_every",
    "keep_checkpoints",
)


def by_the_built_in_loop(run: Run) -> list[str]:
    """One line for each key of arcface_torch that asks for something that the built-in loop does not do."""
    lines = _lines(run, _OURS.items()) + _of_wandb(run)
    if "save_all_states" in run.set_keys and not run.save_all_states:
        lines.append(
            "config.save_all_states = False has no effect here: the built-in loop always saves what a resume needs"
        )
    return lines


def by_a_checkout(run: Run) -> list[str]:
    """One line for each setting that asks for something that an arcface_torch checkout's loop does not do."""
    defaults, lines = TrainOptions(), _lines(run, _OURS.items()) + _of_wandb(run)
    there = "has no effect in a checkout's loop"
    for key in _BUILT_IN_ONLY:
        if (value := getattr(run.train, key)) != getattr(defaults, key):
            lines.append(f"config.qgface.train.{key} = {value!r} {there}")
    if run.mlflow_experiment:
        lines.append(f"config.mlflow_experiment = {run.mlflow_experiment!r} {there}")
    changed = [key for key, value in vars(VerifyOptions()).items() if getattr(run.verify, key) != value]
    lines += [f"config.qgface.verify.{key} = {getattr(run.verify, key)!r} {there}" for key in changed]
    if run.train.precision == "bfloat16":
        lines.append(f"config.qgface.train.precision = 'bfloat16' {there}: it has float16 only")
    return lines


def by_an_optimizer(run: Run, groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each setting of the optimiser that is another one in the optimiser that a checkout's loop has made.

    Args:
        run: the recipe.
        groups: the optimiser's `param_groups`, before a schedule has touched their rates.
    """
    lines, groups = [], list(groups)
    for key in ("lr", "momentum", "weight_decay"):
        asked, found = getattr(run, key), list(dict.fromkeys(group[key] for group in groups if key in group))
        if found and found != [asked]:
            there = " and ".join(f"{value:g}" for value in found)
            lines.append(f"config.{key} = {asked!r} has no effect in this checkout: its script trains with {there}")
    return lines


def _of_wandb(run: Run) -> list[str]:
    return _lines(run, [("wandb_log_all", "rank 0 alone logs to W&B")] if run.using_wandb else [])


def refuse_in_a_checkout(run: Run) -> None:
    """Refuse what changes the training, and what a checkout's loop has no place for.

    Raises:
        ConfigError: naming the settings, and where they work.
    """
    defaults, method, finetune = FinetuneOptions(), run.qgface, run.finetune
    asked = [
        f"config.qgface.{key} = {getattr(method, key)!r}"
        for key in ("teacher_weight", "queue", "quality")
        if getattr(method, key) == "teacher" or (key == "teacher_weight" and method.teacher_weight)
    ]
    asked += [
        f"config.qgface.finetune.{key} = {value!r}"
        for key, value in vars(finetune).items()
        if value != getattr(defaults, key)
    ]
    if asked:
        raise ConfigError(
            f"{', '.join(asked)}: an arcface_torch checkout's loop has no place for it. Train with the built-in loop: "
            "unset config.host and ARCFACE_TORCH, and start outside of the checkout"
        )


def _lines(run: Run, reasons: Iterable[tuple[str, str]]) -> list[str]:
    def found() -> Iterator[str]:
        for key, why in reasons:
            value = getattr(run, key)
            if key in run.set_keys and value:
                yield f"config.{key} = {value!r} has no effect here: {why}"

    return list(found())


def in_ours_place(key: str) -> str | None:
    """What QGFace does in the place of a key of arcface_torch that has no effect in either trainer; None for others."""
    return _OURS.get(key)


def only_built_in(key: str) -> bool:
    """Whether a key of `config.qgface.train` has no effect in a checkout's loop."""
    return key in _BUILT_IN_ONLY

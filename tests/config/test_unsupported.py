"""What a trainer does not act upon is named, once, with the reason."""

from __future__ import annotations

import pytest

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import FinetuneOptions, TrainOptions, VerifyOptions
from qgface_plugin.config.run import Run
from qgface_plugin.config.unsupported import by_a_checkout, by_an_optimizer, by_the_built_in_loop, refuse_in_a_checkout
from qgface_plugin.utils.errors import ConfigError


def set_by_recipe(**values) -> Run:
    return Run(**values, set_keys=frozenset(values))


def test_keys_that_the_built_in_loop_passes_over_are_named():
    run = set_by_recipe(dali=True, margin_list=(1.0, 0.0, 0.4), using_wandb=True, wandb_log_all=True, wandb_key="k")
    assert by_the_built_in_loop(run) == [
        "config.margin_list = (1.0, 0.0, 0.4) has no effect here: the margin comes from config.qgface.margin and "
        "config.qgface.m",
        "config.dali = True has no effect here: QGFace reads the data itself",
        "config.wandb_log_all = True has no effect here: rank 0 alone logs to W&B",
    ]


def test_keys_that_ask_for_nothing_are_not_named():
    off = set_by_recipe(dali=False, using_wandb=False, interclass_filtering_threshold=0.0, wandb_log_all=True)
    for named in (by_the_built_in_loop, by_a_checkout):
        assert named(off) == [] and named(Run()) == []
        assert named(Run(dali=True)) == []  # not set by the recipe


def test_checkpoints_of_the_built_in_loop_cannot_be_switched_off():
    (line,) = by_the_built_in_loop(Run(set_keys=frozenset({"save_all_states"})))
    assert line.startswith("config.save_all_states = False has no effect here: ")
    assert by_the_built_in_loop(set_by_recipe(save_all_states=True)) == []
    assert by_a_checkout(Run(set_keys=frozenset({"save_all_states"}))) == []


def test_settings_that_a_checkout_passes_over_are_named():
    train = TrainOptions(max_steps=5, precision="bfloat16")
    run = set_by_recipe(dali=True, using_wandb=True, wandb_log_all=True, mlflow_experiment="faces", train=train)
    assert by_a_checkout(run) == [
        "config.dali = True has no effect here: QGFace reads the data itself",
        "config.wandb_log_all = True has no effect here: rank 0 alone logs to W&B",
        "config.qgface.train.max_steps = 5 has no effect in a checkout's loop",
        "config.mlflow_experiment = 'faces' has no effect in a checkout's loop",
        "config.qgface.train.precision = 'bfloat16' has no effect in a checkout's loop: it has float16 only",
    ]


def test_verification_beside_the_sets_is_named():
    (line,) = by_a_checkout(Run(verify=VerifyOptions(before=True)))
    assert line == "config.qgface.verify.before = True has no effect in a checkout's loop"


def test_fine_tuning_in_a_checkout_is_refused_by_name():
    refuse_in_a_checkout(Run())
    method = QGFaceConfig(queue="teacher", teacher_weight=0.5)
    run = Run(init_from="model.pt", qgface=method, finetune=FinetuneOptions(batchnorm="frozen"))
    keys = ("teacher_weight = 0.5", "queue = 'teacher'", "finetune.batchnorm = 'frozen'")
    with pytest.raises(ConfigError, match=", ".join(f"config.qgface.{key}" for key in keys)):
        refuse_in_a_checkout(run)


def test_the_optimizer_of_a_checkout_is_held_against_the_recipe():
    groups = [{"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}, {"lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4}]
    said = "has no effect in this checkout: its script trains with"
    assert by_an_optimizer(Run(momentum=0.8), groups) == [
        f"config.lr = 0.1 {said} 0.1 and 0.2",
        f"config.momentum = 0.8 {said} 0.9",
    ]
    assert by_an_optimizer(Run(), groups[:1]) == []
    assert by_an_optimizer(Run(optimizer="adamw", momentum=0.8), [{"lr": 0.1, "weight_decay": 5e-4}]) == []

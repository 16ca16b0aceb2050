from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import TrainOptions
from qgface_plugin.config.run import Run, difference
from qgface_plugin.utils.errors import ConfigError

UPSTREAM = {
    "margin_list": (1.0, 0.5, 0.0),
    "network": "r50",
    "resume": False,
    "save_all_states": False,
    "embedding_size": 512,
    "sample_rate": 1,
    "interclass_filtering_threshold": 0,
    "fp16": False,
    "batch_size": 128,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "verbose": 2000,
    "frequent": 10,
    "dali": False,
    "dali_aug": False,
    "gradient_acc": 1,
    "seed": 2048,
    "num_workers": 2,
    "suffix_run_name": None,
    "using_wandb": False,
    "wandb_entity": "entity",
    "wandb_project": "project",
    "wandb_log_all": True,
    "save_artifacts": False,
    "wandb_resume": False,
}


def test_defaults_are_arcface_torchs():
    run = Run()
    assert {key: getattr(run, key) for key in UPSTREAM} == UPSTREAM


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sample_rate": 0.0}, r"config\.sample_rate is 0\.0: it must be in \(0\.0, 1\.0\]"),
        ({"sample_rate": 1.1}, r"config\.sample_rate is 1\.1: it must be in \(0\.0, 1\.0\]"),
        ({"batch_size": 1}, r"config\.batch_size is 1: it must be at least 2"),
        ({"gradient_acc": 0}, r"config\.gradient_acc is 0: it must be at least 1"),
        ({"lr": 0.0}, r"config\.lr is 0\.0: it must be above 0\.0"),
        ({"lr": "0.1"}, r"config\.lr is '0\.1' \(str\): it must be float"),
        ({"optimizer": "adam"}, r"config\.optimizer is 'adam': it must be one of 'sgd', 'adamw'"),
        ({"num_epoch": 0}, r"config\.num_epoch is 0: it must be at least 1"),
        ({"num_epoch": 2, "warmup_epoch": 3}, r"config\.warmup_epoch is 3: more than config\.num_epoch = 2"),
        ({"warmup_epoch": -1}, r"config\.warmup_epoch is -1: it must be at least 0"),
        ({"val_targets": "lfw"}, r"config\.val_targets is 'lfw' \(str\): it must be a list of str"),
        ({"margin_list": (1.0, 0.5)}, r"config\.margin_list is .*: it must be \(float, float, float\)"),
        ({"rec": ""}, r"config\.rec is '': name at least one folder, and no empty name"),
        ({"rec": ()}, r"config\.rec is \(\): name at least one folder"),
        ({"rec": ("a", "")}, r"config\.rec is \('a', ''\): name at least one folder"),
        ({"seed": -1}, r"config\.seed is -1: it must be at least 0"),
        ({"num_classes": 1}, r"config\.num_classes is 1: it must be at least 2"),
        ({"degradation": None}, r"degradation is None .*queue is 'proxy': contrast needs pairs"),
        (
            {"num_epoch": 9, "train": TrainOptions(schedule="step", milestones=(6, 9))},
            r"config\.qgface\.train\.milestones is \(6, 9\): the last one must be before .* config\.num_epoch = 9",
        ),
        (
            {"fp16": True, "train": TrainOptions(precision="bfloat16")},
            r"config\.fp16 is True, but config\.qgface\.train\.precision is 'bfloat16'",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        Run(**values)


def test_settings_that_can_be_used_together():
    Run(num_epoch=10, train=TrainOptions(schedule="step", milestones=(6, 9)))
    Run(degradation=None, qgface=QGFaceConfig(queue="none"))
    Run(fp16=True, train=TrainOptions(precision="float16"))
    Run(num_epoch=1, warmup_epoch=1)


def test_lists_become_tuples_and_the_counts_can_be_filled_in():
    run = replace(Run(rec=["a", "b"], val_targets=["lfw"]), num_classes=8631, num_image=3000)  # type: ignore[arg-type]
    assert (run.rec, run.val_targets) == (("a", "b"), ("lfw",))
    assert (run.num_classes, run.num_image) == (8631, 3000)


def test_as_dict_is_complete_and_survives_json():
    run = Run(rec=("a", "b"), num_classes=10, notes="a note")
    values = run.as_dict()
    assert json.loads(json.dumps(values)) == values
    assert set(values) == {f.name for f in fields(Run)} - {"set_keys"}
    assert values["rec"] == ["a", "b"]
    assert values["qgface"]["b"] == 0.2
    assert values["degradation"]["jpeg_quality"] == 75
    assert values["train"]["milestones"] == []


def test_as_dict_keeps_the_secret_out():
    assert "s3cr3t" not in json.dumps(Run(wandb_key="s3cr3t").as_dict())
    assert Run().as_dict()["wandb_key"] is None


def test_difference_names_each_key_with_both_values():
    before = Run(lr=0.1, margin_list=(1.0, 0.5, 0.0))
    now = replace(before, lr=0.2, qgface=QGFaceConfig(b=0.3, queue_size=100))
    assert difference(before.as_dict(), now.as_dict()) == [
        "lr: 0.1 in the checkpoint, 0.2 in the recipe",
        "qgface.b: 0.2 in the checkpoint, 0.3 in the recipe",
        "qgface.queue_size: None in the checkpoint, 100 in the recipe",
    ]
    assert difference(before.as_dict(), before.as_dict()) == []


def test_difference_of_keys_on_one_side_and_of_tuples():
    assert difference({"a": 1, "c": (1, 2)}, {"b": None, "c": [1, 2]}) == [
        "a: 1 in the checkpoint, absent in the recipe",
        "b: absent in the checkpoint, None in the recipe",
    ]


def test_difference_of_a_group_that_is_none_on_one_side():
    single = Run(degradation=None, qgface=QGFaceConfig(queue="none"))
    lines = difference(single.as_dict(), Run(qgface=QGFaceConfig(queue="none")).as_dict())
    assert "degradation: None in the checkpoint, absent in the recipe" in lines
    assert "degradation.jpeg_quality: absent in the checkpoint, 75 in the recipe" in lines

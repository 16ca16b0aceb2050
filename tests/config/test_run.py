"""A run's settings: what cannot be used together is named; how they are written down and compared."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import TrainOptions
from qgface_plugin.config.run import Run, difference
from qgface_plugin.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0.0}, r"config\.lr is 0\.0"),
        ({"rec": ""}, r"config\.rec is ''"),
        ({"rec": ()}, r"config\.rec is \(\)"),
        ({"rec": ("a", "")}, r"config\.rec is \('a', ''\)"),
        ({"sample_rate": -0.1}, r"config\.sample_rate is -0\.1: it must be in \[0\.0, 1\.0\]"),
        ({"warmup_epoch": -2}, r"config\.warmup_epoch is -2: it must be at least -1"),
        ({"warmup_epoch": -0.5}, r"config\.warmup_epoch is -0\.5: it must be at least 0, or -1 for none"),
        ({"num_epoch": 2, "warmup_epoch": 3}, r"config\.warmup_epoch is 3: .*config\.num_epoch = 2"),
        (
            {"num_epoch": 9, "train": TrainOptions(schedule="step", milestones=(6, 9))},
            r"config\.qgface\.train\.milestones is \(6, 9\): .*config\.num_epoch = 9",
        ),
        ({"degradation": None}, r"config\.qgface\.degradation is None .*config\.qgface\.queue is 'proxy'"),
        (
            {"degradation": None, "qgface": QGFaceConfig(queue="none", quality="degradation")},
            r"config\.qgface\.quality is 'degradation', .*config\.qgface\.degradation is None",
        ),
        (
            {"fp16": True, "train": TrainOptions(precision="bfloat16")},
            r"config\.fp16 is True, .*config\.qgface\.train\.precision is 'bfloat16'",
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


def test_values_of_arcface_torchs_own_configs_are_kept_as_they_are():
    """Only the batch's classes compete (wf42m_pfc0008_32gpu_r100), no warm-up (3millions)."""
    values = Run(sample_rate=0, warmup_epoch=-1).as_dict()
    assert (values["sample_rate"], values["warmup_epoch"]) == (0, -1)


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
    assert "s3cr3t" not in repr(Run(wandb_key="s3cr3t"))
    with pytest.raises(ConfigError, match=r"config.wandb_key is \(set\) \(tuple\): it must be str or None") as caught:
        Run(wandb_key=("s3cr3t",))  # type: ignore[arg-type]
    assert "s3cr3t" not in str(caught.value)


def test_difference_names_each_key_with_both_values():
    before = Run(lr=0.1, margin_list=(1.0, 0.5, 0.0))
    now = replace(before, lr=0.2, qgface=QGFaceConfig(b=0.3, queue_size=100))
    assert difference(before.as_dict(), now.as_dict()) == [
        "lr: 0.1 in the checkpoint, 0.2 in the recipe",
        "qgface.b: 0.2 in the checkpoint, 0.3 in the recipe",
        "qgface.queue_size: None in the checkpoint, 100 in the recipe",
    ]
    assert difference(before.as_dict(), before.as_dict()) == []


def test_a_number_written_in_another_way_is_no_difference():
    before, now = Run(sample_rate=1, margin_list=(1, 0.5, 0)), Run(sample_rate=1.0, margin_list=(1.0, 0.5, 0.0))
    assert difference(before.as_dict(), now.as_dict()) == []


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

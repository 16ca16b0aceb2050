"""Settings of the data and of the built-in loop, and how a recipe names its degradation."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from qgface_plugin.config.degradation import ADAFACE, OURS, degradation_policy
from qgface_plugin.config.options import DataOptions, TrainOptions
from qgface_plugin.utils.errors import ConfigError


@pytest.mark.parametrize("options", [DataOptions, TrainOptions])
def test_every_setting_says_what_it_means(options):
    assert [f.name for f in fields(options) if not f.metadata.get("help")] == []


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices(device):
    assert TrainOptions(device=device).device == device


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "gpu"}, r"train\.device is 'gpu'"),
        ({"device": "cuda:x"}, r"train\.device is 'cuda:x'"),
        ({"precision": "fp16"}, r"train\.precision is 'fp16'"),
        ({"schedule": "step"}, r"train\.schedule is 'step' with milestones \(\)"),
        ({"milestones": (6, 9)}, r"train\.schedule is 'polynomial' with milestones \(6, 9\)"),
        ({"schedule": "step", "milestones": (9, 6)}, r"train\.milestones is \(9, 6\)"),
        ({"schedule": "step", "milestones": (6, 6)}, r"train\.milestones is \(6, 6\)"),
        ({"schedule": "step", "milestones": (0, 6)}, r"train\.milestones is \(0, 6\)"),
    ],
)
def test_train_options_that_cannot_be_used_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainOptions(**values)


def test_milestones_from_a_list_become_a_tuple():
    assert TrainOptions(schedule="step", milestones=[6, 9]).milestones == (6, 9)  # type: ignore[arg-type]


def test_data_options_that_cannot_be_used_are_named():
    with pytest.raises(ConfigError, match=r"config\.qgface\.data\.source is 'lmdb'"):
        DataOptions(source="lmdb")


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        (None, None),
        ("ours", OURS),
        ("adaface", ADAFACE),
        ({}, OURS),
        ({"policy": "adaface"}, ADAFACE),
        ({"jpeg_quality": 60}, replace(OURS, jpeg_quality=60)),
        ({"policy": "adaface", "brightness": 0.1}, replace(ADAFACE, brightness=0.1)),
        ({"rescale_ratio": [0.2, 0.4]}, replace(OURS, rescale_ratio=(0.2, 0.4))),
        (OURS, OURS),
    ],
)
def test_degradation_policies(value, policy):
    assert degradation_policy(value) == policy


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("our", r"degradation\.policy is 'our' .*ours"),
        ({"policy": None}, r"degradation\.policy is None .*adaface, ours"),
        (True, r"config\.qgface\.degradation is True"),
        ({"jpeg_qualty": 60}, r"config\.qgface\.degradation\.jpeg_qualty .*jpeg_quality"),
    ],
)
def test_degradation_that_cannot_be_used_is_named(value, message):
    with pytest.raises(ConfigError, match=message):
        degradation_policy(value)


def test_the_recipes_group_is_left_alone():
    given = {"policy": "adaface", "jpeg_quality": 60}
    degradation_policy(given)
    assert given == {"policy": "adaface", "jpeg_quality": 60}

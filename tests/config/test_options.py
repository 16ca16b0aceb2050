from __future__ import annotations

from dataclasses import fields, replace

import pytest

from qgface_plugin.config.degradation import ADAFACE, OURS, degradation_policy
from qgface_plugin.config.options import DataOptions, TrainOptions
from qgface_plugin.utils.errors import ConfigError


@pytest.mark.parametrize("options", [DataOptions, TrainOptions])
def test_every_knob_says_what_it_means(options):
    assert [f.name for f in fields(options) if not f.metadata.get("help")] == []


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices(device):
    assert TrainOptions(device=device).device == device


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "gpu"}, r"train\.device is 'gpu': it must be 'auto', 'cpu', 'cuda' or 'cuda:N'"),
        ({"device": "cuda:x"}, r"train\.device is 'cuda:x'"),
        ({"precision": "fp16"}, r"train\.precision is 'fp16': it must be one of 'float32', 'bfloat16', 'float16'"),
        ({"schedule": "step"}, r"train\.schedule is 'step' with milestones \(\): name the epochs"),
        ({"milestones": (6, 9)}, r"train\.schedule is 'polynomial' with milestones \(6, 9\): set schedule = 'step'"),
        ({"schedule": "step", "milestones": (9, 6)}, r"train\.milestones is \(9, 6\): ascending epochs from 1 on"),
        ({"schedule": "step", "milestones": (6, 6)}, r"train\.milestones is \(6, 6\): ascending epochs from 1 on"),
        ({"schedule": "step", "milestones": (0, 6)}, r"train\.milestones is \(0, 6\): ascending epochs from 1 on"),
        ({"schedule": "step", "milestones": (1.5,)}, r"train\.milestones is \(1\.5,\) \(tuple\): .* a list of int"),
        ({"gamma": 0.0}, r"train\.gamma is 0\.0: it must be in \(0\.0, 1\.0\]"),
        ({"clip_grad": -1.0}, r"train\.clip_grad is -1\.0: it must be at least 0"),
        ({"max_bad_steps": 0}, r"train\.max_bad_steps is 0: it must be at least 1"),
        ({"max_steps": 0}, r"train\.max_steps is 0: it must be at least 1"),
        ({"threads": 0}, r"train\.threads is 0: it must be at least 1"),
        ({"keep_checkpoints": 0}, r"train\.keep_checkpoints is 0: it must be at least 1"),
        ({"checkpoint_every": -1}, r"train\.checkpoint_every is -1: it must be at least 0"),
        ({"channels_last": "yes"}, r"train\.channels_last is 'yes' \(str\): it must be bool"),
    ],
)
def test_train_options_that_cannot_be_used_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainOptions(**values)


def test_milestones_from_a_list_become_a_tuple():
    assert TrainOptions(schedule="step", milestones=[6, 9]).milestones == (6, 9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "lmdb"}, r"data\.source is 'lmdb': it must be one of 'recordio', 'folder'"),
        ({"degrade_on": "gpu"}, r"data\.degrade_on is 'gpu': it must be one of 'cpu', 'device'"),
        ({"on_corrupt": "ignore"}, r"data\.on_corrupt is 'ignore': it must be one of 'error', 'skip'"),
    ],
)
def test_data_options_that_cannot_be_used_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        DataOptions(**values)


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
        ("our", r"degradation\.policy is 'our' and unknown: did you mean ours\?"),
        ({"policy": None}, r"degradation\.policy is None and unknown: known keys: adaface, ours"),
        (True, r"config\.qgface\.degradation is True: it must be 'ours', 'adaface', None or"),
        ({"jpeg_qualty": 60}, r"config\.qgface\.degradation\.jpeg_qualty is unknown: did you mean jpeg_quality"),
        ({"jpeg_quality": 0}, r"degradation\.jpeg_quality is 0"),
    ],
)
def test_degradation_that_cannot_be_used_is_named(value, message):
    with pytest.raises(ConfigError, match=message):
        degradation_policy(value)


def test_the_recipes_group_is_left_alone():
    given = {"policy": "adaface", "jpeg_quality": 60}
    degradation_policy(given)
    assert given == {"policy": "adaface", "jpeg_quality": 60}

from __future__ import annotations

import dataclasses
import math

import pytest

from qgface_plugin.config.degradation import ADAFACE, FILTERS, OURS, PRESETS, DegradationPolicy
from qgface_plugin.config.schema import from_mapping
from qgface_plugin.utils.errors import ConfigError


def test_ours_is_setting_e_of_the_paper():
    assert dataclasses.asdict(OURS) == {
        "rescale_p": 1.0,
        "rescale_ratio": (0.1, 0.5),
        "filters": ("nearest", "bilinear", "area", "bicubic", "lanczos"),
        "rescale_antialias": True,
        "jpeg_p": 1.0,
        "jpeg_quality": 75,
        "crop_p": 0.2,
        "crop_area": (0.8, 1.0),
        "crop_aspect": (3 / 4, 4 / 3),
        "crop_keeps_place": False,
        "photometric_p": 0.2,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "rotation_p": 0.2,
        "rotation_degrees": 45.0,
        "flip_p": 0.5,
        "steps": (),
    }


def test_adaface_is_setting_a_of_the_paper():
    changed = {k: v for k, v in dataclasses.asdict(ADAFACE).items() if v != getattr(OURS, k)}
    assert changed == {
        "rescale_p": 0.2,
        "rescale_ratio": (0.2, 1.0),
        "rescale_antialias": False,
        "jpeg_p": 0.0,
        "crop_area": (0.2, 1.0),
        "crop_keeps_place": True,
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
        "rotation_p": 0.0,
    }
    assert PRESETS == {"ours": OURS, "adaface": ADAFACE}


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("rescale_p", 1.5, r"rescale_p is 1.5: it must be in \[0.0, 1.0\]"),
        ("crop_p", -0.1, r"crop_p is -0.1: it must be in"),
        ("jpeg_p", math.nan, r"jpeg_p is nan: it must be"),
        ("flip_p", "half", r"flip_p is 'half' \(str\): it must be float"),
        ("jpeg_quality", 0, r"jpeg_quality is 0: it must be in \[1, 100\]"),
        ("jpeg_quality", 75.0, r"jpeg_quality is 75.0 \(float\): it must be int"),
        ("rescale_ratio", (0.5, 0.1), r"rescale_ratio is \(0.5, 0.1\): it must be \(low, high\), 0 < low <= high <= 1"),
        ("rescale_ratio", (0.0, 0.5), r"rescale_ratio is \(0.0, 0.5\)"),
        ("rescale_ratio", 0.3, r"rescale_ratio is 0.3 \(float\)"),
        ("crop_area", (0.5, 1.1), r"crop_area is \(0.5, 1.1\)"),
        ("crop_aspect", (0.5, math.inf), r"crop_aspect is \(0.5, inf\): it must be \(low, high\), 0 < low <= high$"),
        ("brightness", 1.2, r"brightness is 1.2"),
        ("rotation_degrees", 200.0, r"rotation_degrees is 200.0: it must be in \[0.0, 180.0\]"),
        ("filters", (), r"filters is \(\): it must name at least one of nearest, bilinear"),
        ("filters", ("box",), r"filters is \('box',\): it must name at least one of nearest"),
        ("crop_keeps_place", 1, r"crop_keeps_place is 1 \(int\): it must be bool"),
    ],
)
def test_a_value_out_of_range_is_named(field, value, match):
    with pytest.raises(ConfigError, match=rf"config\.qgface\.degradation\.{match}"):
        DegradationPolicy(**{field: value})


def test_lists_of_a_recipe_become_tuples():
    policy = from_mapping(DegradationPolicy, {"filters": list(FILTERS), "rescale_ratio": [0.1, 0.5]}, "degradation")
    assert policy == OURS
    assert hash(policy) == hash(OURS)


def test_an_unknown_field_is_named_with_its_neighbour():
    with pytest.raises(ConfigError, match="degradation.rescale_ration is unknown: did you mean rescale_ratio"):
        from_mapping(DegradationPolicy, {"rescale_ration": (0.1, 0.5)}, "degradation")


def test_every_parameter_says_what_it_is():
    assert all(len(field.metadata["help"]) > 10 for field in dataclasses.fields(DegradationPolicy))

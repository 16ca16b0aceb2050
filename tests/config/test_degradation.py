"""Settings of the degraded view: what cannot be used is named."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from qgface_plugin.config.degradation import FILTERS, OURS, DegradationPolicy
from qgface_plugin.config.schema import from_mapping
from qgface_plugin.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("rescale_p", 1.5, r"rescale_p is 1.5"),
        ("rescale_ratio", (0.5, 0.1), r"rescale_ratio is \(0.5, 0.1\)"),
        ("rescale_ratio", (0.0, 0.5), r"rescale_ratio is \(0.0, 0.5\)"),
        ("crop_area", (0.5, 1.1), r"crop_area is \(0.5, 1.1\)"),
        ("crop_aspect", (0.5, math.inf), r"crop_aspect is \(0.5, inf\)"),
        ("filters", (), r"filters is \(\)"),
        ("filters", ("box",), r"filters is \('box',\): .*nearest"),
        ("steps", ("fog",), r"steps names 'fog'"),
    ],
)
def test_a_value_out_of_range_is_named(field, value, match):
    with pytest.raises(ConfigError, match=rf"config\.qgface\.degradation\.{match}"):
        DegradationPolicy(**{field: value})


def test_lists_of_a_recipe_become_tuples():
    policy = from_mapping(DegradationPolicy, {"filters": list(FILTERS), "rescale_ratio": [0.1, 0.5]}, "degradation")
    assert policy == OURS
    assert hash(policy) == hash(OURS)


def test_every_parameter_says_what_it_is():
    assert all(len(field.metadata["help"]) > 10 for field in fields(DegradationPolicy))

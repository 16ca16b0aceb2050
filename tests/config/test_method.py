from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from qgface_plugin.config.method import AUTHORS, QGFaceConfig
from qgface_plugin.config.schema import setting
from qgface_plugin.utils.errors import ConfigError


def test_defaults_are_the_papers():
    config = QGFaceConfig()
    assert (config.c, config.b, config.s, config.m) == (0.333, 0.2, 64.0, 0.4)
    assert (config.margin, config.queue, config.queue_size) == ("adaface", "proxy", None)
    assert (config.stats_momentum, config.key_momentum) == (0.01, 0.999)
    assert (config.classification_gate, config.contrastive_gate) == ("exact", "exact")
    assert config.positive_in_denominator and config.renormalise and config.detach_key
    assert config.changed() == {}


def test_every_knob_says_what_it_means():
    assert [f.name for f in fields(QGFaceConfig) if not f.metadata.get("help")] == []


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(FrozenInstanceError):
        QGFaceConfig().b = 0.3  # type: ignore[misc]


def test_authors_selects_each_of_their_choices():
    config = QGFaceConfig.from_mapping({"authors": True})
    assert config.changed() == AUTHORS


def test_a_key_beside_authors_wins_over_the_preset():
    config = QGFaceConfig.from_mapping({"authors": True, "renormalise": True, "b": 0.3})
    assert config.renormalise is True
    assert config.b == 0.3
    assert config.coupling == AUTHORS["coupling"]


def test_authors_false_is_the_paper_and_the_mapping_is_left_alone():
    given = {"authors": False, "m": 0.3}
    assert QGFaceConfig.from_mapping(given).changed() == {"m": 0.3}
    assert given == {"authors": False, "m": 0.3}


def test_authors_without_a_queue_is_a_run_without_contrast():
    config = QGFaceConfig.from_mapping({"authors": True, "queue": "none"})
    assert config.contrastive_gate == "exact"
    assert config.classification_gate == "sigmoid"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"authors": 1}, r"config\.qgface\.authors is 1: it must be True or False"),
        ({"b": 1.2}, r"config\.qgface\.b is 1\.2: it must be in \[0\.0, 1\.0\]"),
        ({"b": -0.1}, r"config\.qgface\.b is -0\.1: it must be in \[0\.0, 1\.0\]"),
        ({"b": float("nan")}, r"config\.qgface\.b is nan: it must be a finite number"),
        ({"s": 0}, r"config\.qgface\.s is 0: it must be above 0"),
        ({"s": float("inf")}, r"config\.qgface\.s is inf: it must be a finite number"),
        ({"m": "0.4"}, r"config\.qgface\.m is '0\.4' \(str\): it must be float"),
        ({"queue": "fifo"}, r"config\.qgface\.queue is 'fifo': it must be one of 'none', 'batch', 'momentum', 'proxy'"),
        ({"queue_size": 0}, r"config\.qgface\.queue_size is 0: it must be at least 1"),
        ({"queue_size": 1.5}, r"config\.qgface\.queue_size is 1\.5 \(float\): it must be int or None"),
        ({"margin": "adafce"}, r"config\.qgface\.margin is 'adafce': it must be one of 'adaface'"),
        ({"quue": "proxy"}, r"config\.qgface\.quue is unknown: did you mean queue"),
        ({"author": True}, r"config\.qgface\.author is unknown: did you mean authors\?"),
        ({"queue": "none", "contrastive_gate": "zero_logits"}, "'zero_logits' needs a queue"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        QGFaceConfig.from_mapping(values)


def test_a_group_that_is_no_mapping_is_named():
    with pytest.raises(ConfigError, match=r"config\.qgface is 5 \(int\): it must be an EasyDict"):
        QGFaceConfig.from_mapping(5)  # type: ignore[arg-type]


def test_knob_keeps_its_metadata():
    made = setting(1, "what it is", low=0, above=None, high=2, choices=(1, 2))
    assert made.default == 1
    assert made.metadata["help"] == "what it is"
    assert (made.metadata["low"], made.metadata["high"], made.metadata["choices"]) == (0, 2, (1, 2))

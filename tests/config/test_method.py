"""The method's settings: the authors' preset, and values that cannot be used."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from qgface_plugin.config.method import AUTHORS, QGFaceConfig
from qgface_plugin.utils.errors import ConfigError


def test_every_setting_says_what_it_means():
    assert [f.name for f in fields(QGFaceConfig) if not f.metadata.get("help")] == []


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(FrozenInstanceError):
        QGFaceConfig().b = 0.3  # type: ignore[misc]


def test_authors_selects_each_of_their_choices():
    config = QGFaceConfig.from_mapping({"authors": True})
    assert config == QGFaceConfig(**AUTHORS) and config != QGFaceConfig()
    assert [key for key, value in AUTHORS.items() if getattr(QGFaceConfig(), key) == value] == []


def test_a_key_beside_authors_wins_over_the_preset():
    config = QGFaceConfig.from_mapping({"authors": True, "renormalise": True, "b": 0.3})
    assert config.renormalise is True
    assert config.b == 0.3
    assert config.coupling == AUTHORS["coupling"]


def test_authors_false_is_the_paper_and_the_mapping_is_left_alone():
    given = {"authors": False, "m": 0.3}
    assert QGFaceConfig.from_mapping(given) == QGFaceConfig(m=0.3)
    assert given == {"authors": False, "m": 0.3}


def test_authors_without_a_queue_is_a_run_without_contrast():
    config = QGFaceConfig.from_mapping({"authors": True, "queue": "none"})
    assert config.contrastive_gate == "exact"
    assert config.classification_gate == "sigmoid"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"authors": 1}, r"config\.qgface\.authors is 1"),
        ({"author": True}, r"config\.qgface\.author .*authors"),
        ({"b": 1.2}, r"config\.qgface\.b is 1\.2"),
        ({"b_quantile": 1.0}, r"config\.qgface\.b_quantile is 1\.0"),
        ({"quality": "nrom"}, r"config\.qgface\.quality is 'nrom': .*'norm'"),
        ({"margin": "adafce"}, r"config\.qgface\.margin is 'adafce': .*'adaface'"),
        ({"queue": "fifo"}, r"config\.qgface\.queue is 'fifo': .*'none', 'batch', 'momentum', 'proxy'"),
        ({"magface_norms": (110.0, 10.0)}, r"config\.qgface\.magface_norms is \(110\.0, 10\.0\)"),
        ({"magface_norms": (0.0, 10.0)}, r"config\.qgface\.magface_norms is \(0\.0, 10\.0\)"),
        ({"magface_m": (0.5, 0.5)}, r"config\.qgface\.magface_m is \(0\.5, 0\.5\)"),
        ({"queue": "none", "contrastive_gate": "zero_logits"}, r"config\.qgface\.contrastive_gate = 'zero_logits'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        QGFaceConfig.from_mapping(values)

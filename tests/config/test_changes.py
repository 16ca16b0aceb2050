"""Changes from the command line: what is typed, and what becomes of a recipe."""

from __future__ import annotations

import logging

import pytest
from easydict import EasyDict
from paths import RECIPES

from qgface_plugin.config import load_recipe
from qgface_plugin.config.changes import changed, parse_change
from qgface_plugin.config.degradation import degradation_policy
from qgface_plugin.utils.errors import ConfigError

R34 = RECIPES / "qgface_r34.py"


@pytest.mark.parametrize(
    "text, change",
    [("lr=0.02", ("lr", 0.02)), ("network=mbf", ("network", "mbf")), ("rec=['a', 'b']", ("rec", ["a", "b"])),
     ("notes=a=b", ("notes", "a=b")), ("fp16=False", ("fp16", False)), ("output=None", ("output", None)),
     ("config.qgface.b = 0.3", ("qgface.b", 0.3)), ("rec=/data/1", ("rec", "/data/1")), ("notes=", ("notes", ""))],
)  # fmt: skip
def test_what_a_user_types(text, change):
    assert parse_change(text) == change


def test_a_secret_is_not_for_a_command_line():
    for text in ("wandb_key=s3cret", "config.wandb_key = s3cret"):
        with pytest.raises(ConfigError, match="set WANDB_API_KEY instead") as caught:
            parse_change(text)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["lr", "=3", "qgface.=3", ".lr=3", "qgface..b=3", ""])
def test_what_sets_nothing(text):
    with pytest.raises(ConfigError, match="sets nothing: write KEY=VALUE"):
        parse_change(text)


def test_the_config_stays_as_it_is():
    config = EasyDict(lr=0.1, qgface=EasyDict(train=EasyDict(milestones=(6, 9))))
    result = changed(config, {"lr": 0.2, "qgface.train.gamma": 0.5, "qgface.data.source": "folder"}, "x.py")
    assert result == {
        "lr": 0.2, "qgface": {"train": {"milestones": (6, 9), "gamma": 0.5}, "data": {"source": "folder"}}
    }  # fmt: skip
    assert config == {"lr": 0.1, "qgface": {"train": {"milestones": (6, 9)}}}


def test_a_recipe_with_changes():
    changes = {"lr": 1, "qgface.queue": "momentum", "qgface.degradation.jpeg_quality": 60, "output": "there"}
    run, plain = load_recipe(R34, {}, changes), load_recipe(R34, {})
    assert (run.lr, run.qgface.queue, run.output, run.name) == (1, "momentum", "there", "qgface_r34")
    assert run.degradation == degradation_policy({"policy": "ours", "jpeg_quality": 60}) != plain.degradation
    assert run.as_dict()["degradation"]["jpeg_quality"] == 60 and "lr" in run.set_keys
    assert {key for key, value in run.as_dict().items() if value != plain.as_dict()[key]} == {
        "lr", "qgface", "degradation", "output"
    }  # fmt: skip


def test_the_command_line_comes_after_the_environment(caplog):
    caplog.set_level(logging.INFO, "qgface_plugin")
    assert load_recipe(R34, {"DATA_ROOT": "/environment"}, {"rec": "/typed", "wandb_key": "s3cret"}).rec == "/typed"
    assert "changed on the command line: rec = '/typed', wandb_key = (set)" in caplog.messages
    assert "DATA_ROOT" not in caplog.text and "s3cret" not in caplog.text
    assert load_recipe(R34, {"DATA_ROOT": "/environment"}, {"lr": 0.1}).rec == "/environment"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"lrr": 1}, r"qgface_r34.py, changed by lrr = 1: config.lrr is unknown: did you mean lr"),
     ({"qgface.quue": "none"}, r"config.qgface.quue is unknown: did you mean queue"),
     ({"queue": "none"}, r"config.queue is unknown: it belongs in config.qgface"),
     ({"qgface.trian.gamma": 0.5}, r"config.qgface.trian is unknown"),
     ({"qgface.degradation.quality": 1}, r"config.qgface.degradation.quality is unknown"),
     ({"lr": "much"}, r"changed by lr = 'much': config.lr is 'much'"),
     ({"network.size": 3}, r"network.size cannot be set: config.network is 'r34' and no group"),
     ({"name": "x"}, r"config.name is unknown")],
)  # fmt: skip
def test_what_is_refused_as_in_a_recipe(changes, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(R34, {}, changes)

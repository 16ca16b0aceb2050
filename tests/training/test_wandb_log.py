"""Weights & Biases by its own package, offline: what a run of the built-in loop leaves there, and never the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import TIMES, tiny_model, tiny_run, write_faces
from wandb_files import config, history, records, run_file

from qgface_plugin.config.options import TrainOptions
from qgface_plugin.training import build
from qgface_plugin.training.tags import tag_of
from qgface_plugin.training.trackers import known_ids
from qgface_plugin.training.trainer import train
from qgface_plugin.training.wandb_log import WandbLog, hand_over_key, without_key
from qgface_plugin.utils.errors import ConfigError, Stopped

SECRET = "0123456789abcdef0123456789abcdef01234567"


def holding(folder: Path, text: str) -> list[Path]:
    """The files below a folder with a text in them, or in their name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes() or text in path.name]


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Iterator[Path]:
    """A home of its own, tiny faces, and W&B without its server."""
    wandb = pytest.importorskip("wandb", reason="the package wandb is not installed (extra `logging`)")
    for name, value in (("HOME", str(tmp_path / "home")), ("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_API_KEY", "")  # monkeypatch puts back what is there now
    for name in ("WANDB_DIR", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    yield tmp_path
    wandb.teardown()  # processes of later tests would find this one's helper by the environment


def test_a_resumed_run_goes_on_in_its_run_there_and_no_file_has_the_key(offline, capfd, caplog):
    asked = dict(using_wandb=True, wandb_key=SECRET, save_artifacts=True, notes="a note", val_targets=("dev",))
    train(tiny_run(offline, **asked, train=TrainOptions(max_steps=5, checkpoint_every=5)))
    first, name = run_file(offline / "out"), known_ids(offline / "out")["wandb"]
    train(tiny_run(offline, **asked, resume=True, wandb_resume=True))
    second = run_file(offline / "out")
    assert first != second and known_ids(offline / "out") == {"wandb": name}
    assert first.name == second.name == f"run-{name}.wandb"

    rows = {row["_step"]: row for path in (first, second) for row in history(path)}
    lines = [json.loads(line) for line in (offline / "out" / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    assert len(trained) == 12
    for line in trained:
        for key, value in line.items():
            if key not in ("kind", "step", "lr", *TIMES):
                assert rows[line["step"]][key if key == "epoch" else tag_of(key)] == pytest.approx(value), key
        assert rows[line["step"]]["speed/learning_rate"] == line["lr"]
    for line in lines:
        assert line["kind"] != "verification" or rows[line["step"]]["verification/dev"] == line["accuracy"]

    shown = config(second)
    assert shown["batch_size"] == 8 and shown["qgface"]["b"] == 0.2 and "wandb_key" not in shown
    artifacts = [r for r in records(second) if r.WhichOneof("record_type") == "request" or r.artifact.name]
    assert any(record.artifact.name == f"model-{name}" for record in artifacts)

    assert holding(offline, "batch_size") and holding(offline, SECRET) == []  # the first: this looks into the files
    out, err = capfd.readouterr()
    assert SECRET not in out + err + caplog.text


def test_without_wandb_resume_it_is_a_new_run_there(offline):
    half = TrainOptions(max_steps=2, checkpoint_every=2)
    train(tiny_run(offline, using_wandb=True, train=half))
    before = known_ids(offline / "out")
    train(tiny_run(offline, using_wandb=True, resume=True, num_epoch=1))
    assert known_ids(offline / "out") != before


def test_how_a_run_ended_is_told(offline):
    for error, code in ((None, 0), (RuntimeError("x"), 1), (Stopped("left"), 1)):
        log = WandbLog(tiny_run(offline, using_wandb=True))
        log.close(error)
        (path,) = (offline / "out" / "wandb").glob(f"offline-run-*/run-{log.id}.wandb")
        found = records(path)
        assert [r.exit.exit_code for r in found if r.WhichOneof("record_type") == "exit"] == [code]
        assert any(r.WhichOneof("record_type") == "preempting" for r in found) == isinstance(error, Stopped)


def test_what_the_service_refuses_is_a_config_error_without_the_key(offline, monkeypatch):
    import wandb

    def init(**settings):
        raise wandb.errors.UsageError(f"no such user for {SECRET}")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(ConfigError, match=r"W&B says: no such user for \(key\)\. Set WANDB_API_KEY") as caught:
        WandbLog(tiny_run(offline, using_wandb=True, wandb_key=SECRET))
    assert SECRET not in str(caught.value) and caught.value.__cause__ is None


def test_the_first_key_that_is_one_goes_into_the_environment():
    for keys, expected in (
        ((None, ""), {}),
        (("X" * 40, None), {}),
        ((None, SECRET), SECRET),
        (("mine", SECRET), "mine"),
    ):
        environ: dict[str, str] = {}
        hand_over_key(*keys, environ=environ)
        assert environ == ({"WANDB_API_KEY": expected} if expected else {})
    kept = {"WANDB_API_KEY": "there"}
    hand_over_key(None, environ=kept)
    assert kept == {"WANDB_API_KEY": "there"}


def test_without_a_key_there_is_nothing_to_hide(monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert without_key("a text") == "a text"

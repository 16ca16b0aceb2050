"""MLflow by its own package, in a folder: what a run of the built-in loop leaves there."""

from __future__ import annotations

import json

import pytest
from tiny import TIMES, tiny_model, tiny_run, write_faces

from qgface_plugin.config.options import TrainOptions
from qgface_plugin.training import build
from qgface_plugin.training.trackers import known_ids
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import ConfigError, Stopped


@pytest.fixture
def client(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the package mlflow (or mlflow-skinny) is not installed")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    return MlflowClient()


def test_a_resumed_run_goes_on_in_its_run_there(tmp_path, client):
    asked = dict(mlflow_experiment="faces", wandb_key="s3cr3t", save_artifacts=True, val_targets=("dev",))
    train(tiny_run(tmp_path, **asked, train=TrainOptions(max_steps=5, checkpoint_every=5)))
    name = known_ids(tmp_path / "out")["mlflow"]
    train(tiny_run(tmp_path, **asked, resume=True))
    assert known_ids(tmp_path / "out") == {"mlflow": name}
    (run,) = client.search_runs([client.get_experiment_by_name("faces").experiment_id])
    assert run.info.run_id == name and run.info.status == "FINISHED"
    assert run.data.params["qgface.b"] == "0.2" and "wandb_key" not in run.data.params
    assert [file.path for file in client.list_artifacts(name)] == ["model.pt"]

    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    for key in set(trained[0]) - {"kind", "step", "lr", *TIMES}:
        logged = [(metric.step, metric.value) for metric in client.get_metric_history(name, key)]
        assert logged == [(line["step"], line[key]) for line in trained], key
    assert {metric.step for metric in client.get_metric_history(name, "verification/dev")} == {5, 6, 12}


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("x"), "FAILED"), (Stopped("left"), "KILLED")])
def test_how_a_run_ended_is_told(tmp_path, client, error, status):
    from qgface_plugin.training.mlflow_log import MLflowLog

    log = MLflowLog(tiny_run(tmp_path, mlflow_experiment="faces"))
    log.close(error)
    assert client.get_run(log.id).info.status == status


def test_a_run_that_is_gone_is_named(tmp_path, client):
    from qgface_plugin.training.mlflow_log import MLflowLog

    with pytest.raises(ConfigError, match="config.mlflow_experiment is 'faces', but MLflow says: .*0123"):
        MLflowLog(tiny_run(tmp_path, mlflow_experiment="faces"), continued="0123")

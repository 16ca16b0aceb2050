"""Services that get a run's numbers: when, which, from whom, and which run of theirs a resumed one goes on in."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_model, tiny_run, write_faces

from qgface_plugin.config.options import TrainOptions
from qgface_plugin.config.run import Run
from qgface_plugin.training import build, trackers, trainer
from qgface_plugin.training.recorder import RunRecorder
from qgface_plugin.training.trackers import Patient, check_packages, known_ids, note_ids
from qgface_plugin.utils.errors import ConfigError


class Service:
    """Remembers what it is given."""

    def __init__(self, start: int) -> None:
        self.start, self.lines, self.saved, self.ended = start, [], [], None

    def log(self, values, step):
        self.lines.append((step, dict(values)))

    def save(self, path):
        self.saved.append(path.read_bytes())

    def close(self, error):
        assert self.ended is None
        self.ended = (type(error).__name__, len(self.lines))


@pytest.fixture
def services(monkeypatch, tmp_path) -> list[Service]:
    """The services that the runs of a test have opened, over tiny faces."""
    opened = []

    def open_trackers(run, start):
        opened.append(Service(start))
        return opened[-1:]

    monkeypatch.setattr(trainer, "open_trackers", open_trackers)
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    return opened


def test_a_service_gets_the_scalars_of_tensorboard_when_a_line_is_due(tmp_path, services):
    trainer.train(tiny_run(tmp_path, frequent=5, num_epoch=2, val_targets=("dev",)))
    (service,) = services
    found = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    expected = {(tag, event.step): event.value for tag in found.Tags()["scalars"] for event in found.Scalars(tag)}
    logged = {(name, step): value for step, line in service.lines for name, value in line.items()}
    assert {step for step, line in service.lines if "loss/loss" in line} == {5, 10, 12}
    verified = "verification/dev"
    assert {(name, step) for name, step in logged if name == verified} == {(verified, 6), (verified, 12)}
    assert {step for name, step in logged if name == "epoch"} == {5, 10, 12} and logged["epoch", 12] == 1
    assert {key: value for key, value in logged.items() if key[0] != "epoch"} == pytest.approx(expected, nan_ok=True)
    assert service.saved[-1] == (tmp_path / "out" / "model.pt").read_bytes() and len(service.saved) == 2
    assert service.start == 0 and service.ended == ("NoneType", len(service.lines))


def test_a_resumed_run_opens_them_after_its_last_step(tmp_path, services):
    half = TrainOptions(max_steps=5, checkpoint_every=5)
    trainer.train(tiny_run(tmp_path, train=half))
    trainer.train(tiny_run(tmp_path, resume=True))
    assert [service.start for service in services] == [0, 5]
    steps = [[step for step, _ in service.lines] for service in services]
    assert steps == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11, 12]]


def test_they_hear_of_the_error_that_ends_a_run(tmp_path):
    service = Service(0)
    with pytest.raises(RuntimeError), RunRecorder(tmp_path, 0, {}, 4, trackers=lambda start: [service]) as recorder:
        recorder.start()
        raise RuntimeError("broken")
    assert service.ended == ("RuntimeError", 0)


def test_a_service_that_fails_is_a_warning_and_no_end_of_a_run(tmp_path, monkeypatch, caplog):
    class Broken(Service):
        def log(self, values, step):
            raise OSError(f"no route {step}")

        def close(self, error):
            raise OSError("no route at all")

    monkeypatch.setattr(trainer, "open_trackers", lambda run, start: [Patient(Broken(start), "it")])
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    trainer.train(tiny_run(tmp_path, num_epoch=1))
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 6
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "it has not got the numbers of step 1: OSError: no route 1",
        "it has not got the end of the run: OSError: no route at all",
    ]


def test_rank_0_alone_has_them(tmp_path):
    def refused(start):
        raise AssertionError("opened on rank 1")

    with RunRecorder(tmp_path / "out", 1, {}, 4, trackers=refused) as recorder:
        recorder.resume(2)
        recorder.start()
        recorder.saved(tmp_path / "model.pt")
        recorder.verification("dev", {"accuracy": 1.0, "std": 0.0, "xnorm": 1.0}, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("settings", "package"), [({"using_wandb": True}, "wandb"),
                                                   ({"mlflow_experiment": "faces"}, "mlflow")])  # fmt: skip
@pytest.mark.parametrize("folder", [False, True])  # one of that name, which a run leaves, is no package
def test_a_package_that_is_missing_is_named_before_training(tmp_path, monkeypatch, settings, package, folder):
    spec = importlib.machinery.ModuleSpec(package, None) if folder else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == package else None)
    with pytest.raises(ConfigError, match=f"the package {package} is not installed: pip install {package}"):
        check_packages(Run(**settings))
    check_packages(Run())
    write_faces(tmp_path / "data")
    with pytest.raises(ConfigError, match="is not installed"):
        trainer.train(tiny_run(tmp_path, **settings))
    assert not (tmp_path / "out" / "training.log").exists()


def test_ids_are_kept_beside_each_other(tmp_path):
    assert known_ids(tmp_path) == {}
    note_ids(tmp_path, {"wandb": "abc"})
    note_ids(tmp_path, {"mlflow": "def"})
    assert known_ids(tmp_path) == {"wandb": "abc", "mlflow": "def"}
    for damaged in ("", "[1]", '{"wandb": 3}', "[" * 100_000):
        (tmp_path / trackers.TRACKING_FILE).write_text(damaged)
        assert known_ids(tmp_path) == {}
    note_ids(tmp_path, {"wandb": "new"})
    assert json.loads((tmp_path / "tracking.json").read_text()) == {"wandb": "new"}

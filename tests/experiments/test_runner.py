"""Runs are made once, in parallel, reported when they fail, and go on after a stop. With stand-ins for the commands."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time

import pytest
from ablations import planned, write_program

from qgface_plugin.experiments.evaluations import Evaluation
from qgface_plugin.experiments.plan import read_record
from qgface_plugin.experiments.runner import Runner, git_commit


@pytest.fixture
def runner(tmp_path):
    pairs = Evaluation("pairs", "eval-pairs", tmp_path)
    return Runner(write_program(tmp_path / "root"), [pairs], 2, "c0ffee", lambda line: None)


def test_trains_and_evaluates_once(runner, tmp_path):
    runs = [planned(tmp_path / "out", name, seed) for name in "ab" for seed in (1, 2)]
    assert [runner.missing(run) for run in runs] == [["train", "pairs"]] * 4
    assert runner.make(runs, progress=False) == []
    assert [runner.missing(run) for run in runs] == [[]] * 4
    train, pairs = read_record(runs[0])
    assert (train["what"], train["status"], train["commit"]) == ("train", 0, "c0ffee") and train["seconds"] >= 0
    assert train["command"] == f"qgface train {runs[0].recipe}"
    assert pairs["command"].startswith(f"qgface eval-pairs --model {runs[0].model} --data")
    assert runner.make(runs, progress=False) == []
    assert [(run.folder / "starts").read_text() for run in runs] == ["x"] * 4


def test_a_new_model_or_other_data_is_evaluated_anew(runner, tmp_path):
    run = planned(tmp_path / "out", "a", 1)
    runner.make([run], progress=False)
    before = run.model.read_bytes()
    for clock in (0, time.time() + 100):  # a clock that goes back, a file that is restored with its time
        run.model.write_bytes(before + b"another")
        os.utime(run.model, (clock, clock))
        assert runner.missing(run) == ["pairs"]
        run.model.write_bytes(before)
        os.utime(run.model, (clock, clock))
        assert runner.missing(run) == []
    assert not Evaluation("pairs", "eval-pairs", tmp_path / "else").done(run.model)


def test_other_data_under_the_same_path_are_evaluated_anew(runner, tmp_path):
    run = planned(tmp_path / "out", "a", 1)
    data = runner.evaluations[0].data
    data.mkdir(exist_ok=True)
    (data / "dev.bin").write_bytes(b"a" * 100)
    runner.make([run], progress=False)
    assert runner.missing(run) == []
    (data / "notes.md").write_text("no data of this protocol")
    assert runner.missing(run) == []
    times = (data / "dev.bin").stat()
    (data / "dev.bin").write_bytes(b"b" * 100)
    os.utime(data / "dev.bin", ns=(times.st_atime_ns, times.st_mtime_ns))  # restored with its time
    assert runner.missing(run) == ["pairs"]
    runner.make([run], progress=False)
    assert runner.missing(run) == []
    (data / "new.bin").write_bytes(b"")
    assert runner.missing(run) == ["pairs"]


def test_a_result_that_does_not_say_which_weights_it_is_of_is_made_anew(runner, tmp_path):
    run = planned(tmp_path / "out", "a", 1)
    runner.make([run], progress=False)
    path = run.folder / "results" / "pairs.json"
    path.write_text(path.read_text().replace("sha256", "md5"))
    assert runner.missing(run) == ["pairs"]
    runner.make([run], progress=False)
    assert runner.missing(run) == []


def test_a_failure_does_not_stop_the_others(runner, tmp_path):
    bad, good = (planned(tmp_path / "out", name, 1) for name in ("bad", "good"))
    bad.folder.mkdir()
    (bad.folder / "fail").touch()
    (problem,) = runner.make([bad, good], progress=False)
    assert problem.startswith(f"{bad.folder}: train failed (1): it went wrong (all of it: ")
    assert runner.missing(good) == [] and runner.missing(bad) == ["train", "pairs"]
    assert read_record(bad)[0]["status"] == 1


def test_a_stop_lets_trainings_leave_and_go_on(runner, tmp_path):
    runs = [planned(tmp_path / "out", name, 1) for name in "abc"]
    for run in runs[:2]:
        run.folder.mkdir()
        (run.folder / "wait").touch()

    def stop() -> None:
        while not all((run.folder / "waiting").exists() for run in runs[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        runner.make(runs, progress=False)
    assert [read_record(run)[0]["status"] for run in runs[:2]] == [143, 143] and not runs[2].folder.exists()
    again = Runner(runner.program, runner.evaluations, 2, "c0ffee", lambda line: None)
    assert again.make(runs, progress=False) == []
    assert [(run.folder / "starts").read_text() for run in runs] == ["xx", "xx", "x"]


def test_the_bar_says_what_is_under_way(hangups, runner, tmp_path):
    run = planned(tmp_path / "out", "a", 1)
    run.folder.mkdir()
    (run.folder / "wait").touch()
    said = []

    def look() -> None:
        while not (run.folder / "waiting").exists():
            time.sleep(0.02)
        said.append(runner.under_way())
        line = json.dumps({"kind": "train", "epoch": 2, "step": 1234})
        (run.folder / "metrics.jsonl").write_text(line + '\n{"kind": "tr')
        said.append(runner.under_way())
        os.kill(os.getpid(), signal.SIGHUP)  # as SIGTERM

    threading.Thread(target=look).start()
    with pytest.raises(KeyboardInterrupt):
        runner.make([run], progress=False)
    assert said[0] == f"{run.folder.name}: train" and said[1].startswith(f"{said[0]}, epoch 3 of ")
    assert said[1].endswith(", step 1234") and runner.under_way() == ""


def test_a_folder_is_nobody_elses_meanwhile(runner, tmp_path):
    run = planned(tmp_path / "out", "a", 1)
    run.folder.mkdir()
    with open(run.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (problem,) = runner.make([run], progress=False)
    assert problem.endswith("another process is at work on it; start again when that has ended")


def test_the_commit_outside_of_a_checkout(tmp_path):
    assert git_commit(tmp_path) == "unknown"

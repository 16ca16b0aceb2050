"""The acceptance: what it does without a GPU, how it goes on after a failure, and each check in small on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qgface_plugin.benchmarks import _acceptance, acceptance
from qgface_plugin.benchmarks._acceptance import resuming, running
from qgface_plugin.benchmarks._acceptance.check import Check, Found, Place, Skipped
from qgface_plugin.commands.benchmark import main

CHECKS = {one.name: one for one in _acceptance.checks()}
# minutes on a CPU, or nothing but a GPU shows it
LONG = ("resumes", "quickstart", "200 steps", "two GPUs", "a step, by", "idle", "criterion, against", "waits")
NOT_HERE = ("tests for GPUs", "the criterion, by PartialFC_V2", "tests of the loss")
TIMED = ("a step, by plain ArcFace's", "idle time of a step", "peak memory of the criterion")  # of a GPU


def test_without_a_gpu_it_says_what_it_would_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["acceptance"]) == 3
    said = capsys.readouterr().out
    places = [said.index(f" {name}: ") for name in CHECKS]
    assert places == sorted(places) and not list(tmp_path.iterdir())


def test_names_are_unique_and_say_what_is_expected():
    assert len(CHECKS) == len(_acceptance.checks()) and all(one.expected and one.seconds > 0 for one in CHECKS.values())


def test_wrong_arguments(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.chdir(tmp_path)
    assert main(["acceptance", "--only", "nothing of that name"]) == 2
    assert "--only fits no check's name" in capsys.readouterr().err


def test_it_goes_on_after_checks_that_fail_and_hang(monkeypatch, capsys, tmp_path):
    """Stand-ins of the checks, in processes of their own as the real ones are."""
    code = tmp_path / "stands_in.py"
    code.write_text(
        "import sys, time, os, json\n"
        "name, report = sys.argv[1:3]\n"
        "if name == 'hangs': time.sleep(600)\n"
        "if name == 'dies': print('device-side assert'); os.abort()\n"
        "json.dump({'verdict': name, 'found': 'this', 'figures': {'x': 1.5}}, open(report, 'w'))\n"
    )
    start = subprocess.Popen

    def stand_in(command, **options):
        return start([sys.executable, code, *command[3:]], **options)

    monkeypatch.setattr(running.subprocess, "Popen", stand_in)
    kinds = [Check(name, "that", lambda _: Found(True, ""), 1.0) for name in ("hangs", "dies")]
    kinds += [Check(name, "that", lambda _: Found(True, ""), 60) for name in ("holds", "skipped")]
    monkeypatch.setattr(_acceptance, "checks", lambda: kinds)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("get_device_name", "get_device_properties"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: "a card")
    assert main(["acceptance", "--json", str(tmp_path / "a.json")]) == 1
    found = json.loads((tmp_path / "a.json").read_text())["results"]["checks"]
    assert {name: one["verdict"] for name, one in found.items()} == {
        "hangs": "fails", "dies": "fails", "holds": "holds", "skipped": "skipped"
    }  # fmt: skip
    assert "ended after 1 s" in found["hangs"]["found"] and found["holds"]["figures"] == {"x": 1.5}
    assert "device-side assert" in found["dies"]["figures"]["last lines"]
    assert "fails    dies: expected that" in capsys.readouterr().out
    assert acceptance.status({"checks": {"a": {"verdict": "holds"}, "b": {"verdict": "skipped"}}}) == 0


def test_the_time_is_up(monkeypatch):
    found = running.run_all([Check("one", "that", lambda _: Found(True, ""))], seconds=1.0)["checks"]
    assert found["one"]["verdict"] == "skipped" and found["one"]["found"] == "the time is up"


def test_a_check_in_a_process_of_its_own(tmp_path):
    """The real process, where there is no GPU: the check fails, and says why."""
    one = CHECKS["embedding, against the CPU"]
    result = running.in_its_own_process(one, 100, None)
    assert result["verdict"] == "fails" and "CUDA" in result["found"], result


@pytest.mark.parametrize(
    "look, verdict, said",
    [
        (lambda _: Found(True, "well"), "holds", "well"),
        (lambda _: Found(False, "ill"), "fails", "ill"),
        (lambda _: 1 / 0, "fails", "ZeroDivisionError"),
    ],
)
def test_verdicts(look, verdict, said, tmp_path):
    result = running.look(Check("one", "that", look), Place(torch.device("cpu"), tmp_path))
    assert result["verdict"] == verdict and said in result["found"]


def test_one_that_lacks_something_is_skipped(tmp_path):
    place = Place(torch.device("cpu"), tmp_path)
    with pytest.raises(Skipped):
        CHECKS["the criterion, by PartialFC_V2"].look(place)
    assert running.look(CHECKS["two GPUs: one rank fails"], place)["verdict"] == "skipped"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name.startswith(LONG) else ())
        for name in CHECKS
        if not name.startswith(NOT_HERE)
    ],
)
def test_each_in_small_on_a_cpu(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.chdir(tmp_path)
    result = running.look(CHECKS[name], Place(torch.device("cpu"), tmp_path, small=True))
    assert result["verdict"] == "holds" or name in TIMED and not result["found"].count("Error"), result
    json.dumps(result)


def test_a_run_that_differs_after_its_resume_fails(tmp_path, monkeypatch):
    losses = {"whole": {7: 1.0, 8: 1.0}, "in parts": {7: 1.0, 8: 1.02}}
    monkeypatch.setattr(resuming, "_train", lambda *_, **__: None)
    monkeypatch.setattr(resuming, "_losses", lambda output: losses[output.name.rpartition("GPU ")[2] or "whole"])
    monkeypatch.setattr(resuming, "RESUMES", {"GPU": ({}, {})})
    found = CHECKS["resumes"].look(Place(torch.device("cpu"), tmp_path))
    assert not found.good and "GPU differs by 2.0e-02" in found.said

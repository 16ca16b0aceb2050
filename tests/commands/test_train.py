"""The command line, as a user types it: exit status, messages, torchrun with two ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import MINI
from paths import ROOT
from recipe_runs import losses, quick_recipe

from qgface_plugin.commands import train
from qgface_plugin.utils.errors import Stopped


def run(*arguments, **environ):
    command = [sys.executable, *map(str, arguments)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environ}
    for name in ("DATA_ROOT", "ARCFACE_TORCH"):
        environ.pop(name, None)
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a run by one process, after its recipe."""
    folder = tmp_path_factory.mktemp("train")
    done = run("train_v2.py", quick_recipe(folder, "one"))
    assert done.returncode == 0, done.stderr
    return folder


def test_one_process_trains(trained):
    assert len(losses(trained / "one")) == 5
    assert "[procedural_dev][5]Accuracy-Flip" in (trained / "one" / "training.log").read_text()


def test_torchrun_with_two_ranks_agrees_with_one_process(trained):
    """The same global batches. Batch normalisation sees half of them on each rank, so only the first loss, before any
    weight has moved, is compared loosely; the criterion's exact agreement is in test_distributed.py."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    done = run(*launcher, "-m", "qgface_plugin", "train", quick_recipe(trained, "two"), "--set", "batch_size=4")
    assert done.returncode == 0, done.stderr
    one, two = losses(trained / "one"), losses(trained / "two")
    assert len(two) == 5 and two[0] == pytest.approx(one[0], rel=0.1)
    saved = {path.name for path in (trained / "two").iterdir()}
    assert {"checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "model.pt", "training.log"} <= saved

    recipe = json.loads((trained / "two" / "recipe.json").read_text())
    assert recipe["batch_size"] == 4 and recipe["name"] == "two"


def test_a_run_goes_on_with_another_setting(trained):
    path = quick_recipe(trained, "longer")
    first = run("-m", "qgface_plugin", "train", path, "--set", "qgface.train.max_steps=2", "lr=0.04")
    assert first.returncode == 0, first.stderr
    assert losses(trained / "longer") == pytest.approx(losses(trained / "one")[:2], rel=0.05)
    more = run("-m", "qgface_plugin", "train", path, "--resume", "--set", "lr=0.04", "--set", "frequent=2")
    assert more.returncode == 0, more.stderr
    lines = (trained / "longer" / "metrics.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, lines) if line["kind"] == "train"] == [1, 2, 4, 5]
    recipe = json.loads((trained / "longer" / "recipe.json").read_text())
    assert (recipe["lr"], recipe["frequent"], recipe["resume"], recipe["train"]["max_steps"]) == (0.04, 2, True, None)
    log = (trained / "longer" / "training.log").read_text()
    assert "changed on the command line: lr = 0.04, frequent = 2, resume = True" in log


@pytest.mark.parametrize(
    ("typed", "message"),
    [(["--set", "lr=0.1", "recipe.py"], "'recipe.py' sets nothing: write KEY=VALUE"), (["recipe.py", "--set", "lr"],
     "argument --set: 'lr' sets nothing")],
)  # fmt: skip
def test_a_change_that_is_none(typed, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(typed)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_an_unknown_key_of_a_change_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ARCFACE_TORCH", raising=False)
    assert train.main([str(quick_recipe(tmp_path, "typo")), "--set", "qgface.quue=none"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("qgface train: ") and "config.qgface.quue is unknown: did you mean queue" in said


def test_a_checkouts_own_config_takes_no_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ARCFACE_TORCH", str(MINI))
    assert train.main(["configs/tiny_r18", "--resume"]) == 2
    assert "is a config of the checkout" in (said := capsys.readouterr().err) and "resume = True" in said


def test_unknown_key_is_named(tmp_path):
    done = run("train_v2.py", quick_recipe(tmp_path, "typo", extra="config.qgface.quue = 'proxy'\n"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "config.qgface.quue is unknown: did you mean queue" in done.stderr


def test_missing_data_is_named(tmp_path):
    extra = "config.qgface.data = edict(source='recordio')\n"
    done = run("train_v2.py", quick_recipe(tmp_path, "nodata", extra=extra))
    assert done.returncode == 2 and "faces: no such file or folder" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    done = run("train_v2.py", quick_recipe(tmp_path, "host", extra=f"config.host = {str(tmp_path)!r}\n"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"config.host names {tmp_path}, which is no arcface_torch checkout (train_v2.py is not there)" in done.stderr


def test_a_stop_after_sigterm_has_its_own_exit_status(tmp_path, monkeypatch, capsys):
    def stopped(path: str, changes: dict) -> None:
        raise Stopped("SIGTERM: stopped and saved after step 7")

    monkeypatch.setattr(train, "run_recipe", stopped)
    assert train.main(["recipe.py"], front="train_v2.py") == 143
    assert capsys.readouterr().err == "train_v2.py: SIGTERM: stopped and saved after step 7\n"


def test_help_reads_well():
    done = run("train_v2.py", "--help")
    assert done.returncode == 0 and "torchrun --nproc_per_node=4 train_v2.py recipes/qgface_r34.py" in done.stdout


@pytest.mark.parametrize("option", ["--local-rank=3", "--local_rank=3"])
def test_the_former_launchers_argument_is_taken(monkeypatch, option):
    seen = []
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(train, "run_recipe", lambda path, changes: seen.append((path, os.environ["LOCAL_RANK"])))
    assert train.main([option, "recipe.py"]) == 0 and seen == [("recipe.py", "3")]
    monkeypatch.setenv("LOCAL_RANK", "1")  # torchrun's own word counts
    assert train.main([option, "recipe.py"]) == 0 and seen[1] == ("recipe.py", "1")


def test_ranks_without_a_place_to_meet_are_refused_in_words(tmp_path, monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    done = run("train_v2.py", quick_recipe(tmp_path, "alone"), RANK="0", WORLD_SIZE="2")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "WORLD_SIZE=2, but no MASTER_" in done.stderr and not (tmp_path / "alone").exists()


def test_a_compiler_that_is_not_there_is_named_before_training(tmp_path):
    path = quick_recipe(tmp_path, "compiled", extra="config.qgface.train.compile = True\n")
    done = run("train_v2.py", path, CXX="/nonexistent/c++")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "config.qgface.train.compile is True, but" in done.stderr and "install a C++ compiler" in done.stderr
    assert not (tmp_path / "compiled").exists()

"""The command line, as a user types it: exit status, messages, torchrun with two ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from recipe_runs import losses, quick_recipe

import train_v2
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
    done = run(*launcher, "train_v2.py", quick_recipe(trained, "two", batch=4))
    assert done.returncode == 0, done.stderr
    one, two = losses(trained / "one"), losses(trained / "two")
    assert len(two) == 5 and two[0] == pytest.approx(one[0], rel=0.1)
    saved = {path.name for path in (trained / "two").iterdir()}
    assert {"checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "model.pt", "training.log"} <= saved


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
    def stopped(path: str) -> None:
        raise Stopped("SIGTERM: stopped and saved after step 7")

    monkeypatch.setattr(train_v2, "run_recipe", stopped)
    assert train_v2.main(["recipe.py"]) == 143
    assert capsys.readouterr().err == "train_v2.py: SIGTERM: stopped and saved after step 7\n"


def test_help_reads_well():
    done = run("train_v2.py", "--help")
    assert done.returncode == 0 and "torchrun --nproc_per_node=4 train_v2.py recipes/qgface_r34.py" in done.stdout

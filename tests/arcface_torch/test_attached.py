"""An attached checkout, started by its own train_v2.py: one owner per folder, and ranks that say why they end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkouts import MINI, copy_of, environment, run, write_recipe
from tiny import write_faces

from qgface_plugin.arcface_torch.attach import attach
from qgface_plugin.utils.folder_lock import FolderLock

STRIKE = """
import os
from qgface_plugin.loss.partial_fc import QGPartialFC
original, calls = QGPartialFC.forward, []
def forward(self, *arguments):
    calls.append(1)
    if os.environ["RANK"] == "{rank}" and len(calls) == 3:
        {what}
    return original(self, *arguments)
QGPartialFC.forward = forward
"""
RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
TWO = "config.batch_size = 4\nconfig.num_epoch = 1\nconfig.frequent = 1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("user")
    write_faces(path / "data")
    attach(copy_of(MINI, path / "checkout"))
    return path


def script(folder: Path) -> Path:
    return folder / "checkout" / "train_v2.py"


def test_a_folder_that_another_run_is_at_work_in_is_refused_before_anything_is_written(folder):
    recipe, output = write_recipe(folder, "owned"), folder / "work_dirs" / "owned"
    output.mkdir(parents=True)
    with FolderLock(output, "run.lock"):
        done = run(script(folder), recipe, cwd=folder)
        assert done.returncode == 2 and re.search(r"config\.output: .*process \d+ on", done.stderr), done.stderr
        assert "Traceback" not in done.stderr and [p.name for p in output.iterdir()] == ["run.lock"]


def test_a_line_below_the_process_group_is_refused(folder, tmp_path):
    low = copy_of(MINI, tmp_path / "low") / "train_v2.py"
    line = 'distributed.init_process_group("gloo")\n'
    assert line in low.read_text()
    low.write_text(low.read_text().replace(line, line + "import qgface_plugin.arcface_torch.autoload\n"))
    done = run(low, write_recipe(folder, "low"), cwd=folder)
    assert done.returncode == 2 and "below init_process_group" in done.stderr and "attach" in done.stderr, done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("rank", "what", "reason"),
    [
        (1, "raise MemoryError", r"rank 1 on \S+: out of memory"),
        (0, "raise MemoryError", "out of memory"),
        (1, "os.kill(os.getpid(), 9)", r"rank\(s\) 1 of 2 ended without"),
        (1, "raise OSError(5, 'Input/output error', 'train.rec')", r"rank 1 on \S+: train.rec: Input/output error"),
    ],
)
def test_the_reason_of_one_rank_is_in_the_log_and_on_standard_error(folder, rank, what, reason):
    name = f"strike_{rank}_{len(what)}"
    recipe = write_recipe(folder, name, TWO + STRIKE.format(rank=rank, what=what))
    done = run(*RANKS, script(folder), recipe, cwd=folder, limit=90)
    assert done.returncode == 1 and re.search(reason, done.stderr), done.stderr
    log = (folder / "work_dirs" / name / "training.log").read_text()
    assert re.search(f"training stopped: .*{reason}", log), log
    assert not (folder / "work_dirs" / name / "run.lock").exists()


@pytest.mark.long
def test_ranks_of_different_recipes_are_refused_with_key_and_values(folder):
    differ = TWO + "import os\nif os.environ['RANK'] == '1': config.lr = 0.5\n"
    done = run(*RANKS, script(folder), write_recipe(folder, "differ", differ), cwd=folder, limit=90)
    assert done.returncode == 1 and "config.lr is 0.05 on rank 0" in done.stderr, done.stderr
    assert "0.5 on rank 1" in done.stderr and not (folder / "work_dirs" / "differ" / "recipe.json").exists()


@pytest.mark.long
def test_two_ranks_train_resume_and_leave_no_lock(folder):
    for epochs, extra in ((1, ""), (2, "config.resume = True\n")):
        recipe = write_recipe(folder, "whole", TWO.replace("= 1\nconfig.f", f"= {epochs}\nconfig.f") + extra)
        done = run(*RANKS, script(folder), recipe, cwd=folder, limit=120)
        assert done.returncode == 0, done.stderr
    names = {path.name for path in (folder / "work_dirs" / "whole").iterdir()}
    assert {"checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "model.pt"} <= names and "run.lock" not in names


@pytest.mark.long
def test_further_arguments_reach_the_checkouts_own_parser(folder):
    source = script(folder).read_text()
    own = 'parser.add_argument("config", type=str)\n'
    changed = source.replace(own, own + '    parser.add_argument("--more")\n')
    assert changed != source
    script(folder).write_text(changed)
    try:
        recipe = write_recipe(folder, "more", "config.num_epoch = 1\n")
        done = run(script(folder), recipe, "--more", "x", cwd=folder)
        assert done.returncode == 0, done.stderr
        wrong = run(script(folder), recipe, "--less", cwd=folder)
        assert wrong.returncode == 2 and "unrecognized arguments: --less" in wrong.stderr
    finally:
        script(folder).write_text(source)


@pytest.mark.long
def test_sigterm_ends_the_ranks_of_a_checkout_as_ever(folder):
    """Nobody has failed: there is no reason to give, and nothing but the signal to end of."""
    recipe = write_recipe(folder, "term", TWO + STRIKE.format(rank=1, what="__import__('time').sleep(60)"))
    environ = {k: v for k, v in environment().items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    launcher = subprocess.Popen(
        [sys.executable, *RANKS, script(folder), recipe], cwd=folder, env=environ, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    metrics, until = folder / "work_dirs" / "term" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") == 2) and time.monotonic() < until:
        time.sleep(0.1)
    launcher.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    said = launcher.communicate(timeout=60)[1]
    assert time.monotonic() - sent < 15 and "ended without giving a reason" not in said, said

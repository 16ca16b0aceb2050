"""One of two ranks fails, at each stage of a run: all end in bounded time, and rank 0's log and every standard error
say which rank it was and why."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pytest
from crashes import LAUNCHER, ROOT, environment, recipe

STRIKE = """
import errno, os, signal, time
from qgface_plugin.data.sources import records
from qgface_plugin.evaluation.protocols import pair_sets
from qgface_plugin.training import metrics_jsonl, trainer, verification
from qgface_plugin.training.checkpoints import store
from qgface_plugin.training.step import TrainStep
from qgface_plugin.utils.errors import DataError
def strike(rank, owner, name, number, what):
    original, calls = getattr(owner, name), []
    def struck(*arguments, **options):
        calls.append(1)
        if int(os.environ["RANK"]) == rank and len(calls) == number:
            what()
        return original(*arguments, **options)
    setattr(owner, name, struck)
def fail(error):
    def now():
        raise error
    return now
"""
KILL = "lambda: os.kill(os.getpid(), signal.SIGKILL)"
FULL = "fail(OSError(errno.ENOSPC, 'No space left on device'))"
CASES = {  # rank, place and its call, what happens there; what is said; is there a log yet?
    "recipe": ("if os.environ['RANK'] == '1': config.lrr = 1", r"rank 1 on \S+: .*config\.lrr is unknown", False),
    "data": ("if os.environ['RANK'] == '1': config.qgface.data.images_per_identity = 0", "rank 1 on .*images", False),
    "reading": ("strike(1, records.FaceRecords, 'check', 1, fail(DataError('x.rec: bad')))", "rank 1 .*x.rec", False),
    "step": ("strike(1, TrainStep, '__call__', 5, fail(MemoryError()))", "rank 1 on .*: out of memory", True),
    "image": ("strike(1, records.FaceRecords, 'read', 9, fail(DataError('image 9')))", "rank 1 on .*: image 9", True),
    "save": (f"strike(1, store.CheckpointStore, 'save', 1, {FULL})", "rank 1 on .*: No space left on device", True),
    "prune": (f"strike(1, store.CheckpointStore, 'prune', 1, {FULL})", "rank 1 on .*: No space left", True),
    "rank 0's log": (f"strike(0, metrics_jsonl.MetricsLog, 'write', 2, {FULL})", "No space left on device", True),
    "verification": ("strike(0, verification, 'verify', 1, fail(DataError('no feature')))", "no feature", True),
    "killed in a step": (f"strike(1, TrainStep, '__call__', 4, {KILL})", r"rank\(s\) 1 of 2 ended without", True),
    "killed in a save": (f"strike(1, store.CheckpointStore, 'prune', 1, {KILL})", r"rank\(s\) 1 of 2 ended", True),
    "killed at rest": (f"strike(1, records.FaceRecords, 'check', 1, {KILL})", r"rank\(s\) 1 of 2 ended", False),
    "while rank 0 verifies": (
        "strike(0, verification, 'verify', 1, lambda: time.sleep(100))\n"
        "strike(1, trainer.Trainer, 'verify', 1, fail(DataError('x.bin: gone')))",
        r"rank 1 on \S+: x\.bin: gone",
        True,
    ),
}
QUICK = ("step",)


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.long) for c in CASES])
def test_the_reason_is_where_people_look(tmp_path, case):
    code, reason, logged = CASES[case]
    path = recipe(tmp_path, "run", extra=STRIKE + code + "\n")
    command = [*LAUNCHER, "--nproc_per_node=2", "train_v2.py", str(path)]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and time.monotonic() - started < 60, done.stderr
    said = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("train_v2.py: ")]
    assert len(said) in (1, 2) and any(re.search(reason, line) for line in said), done.stderr
    assert "Connection closed by peer" not in "".join(said)
    assert done.stderr.count("Traceback") <= 1, done.stderr  # torchrun's own
    assert re.search(reason, done.stderr.partition("FAILED\n")[2]), done.stderr  # in its report
    log = tmp_path / "run" / "training.log"
    if logged:
        stopped = [line for line in log.read_text().splitlines() if "training stopped" in line]
        assert len(stopped) == 1 and re.search(reason, stopped[0]), stopped
    else:
        assert not log.exists() and not (tmp_path / "run").exists()


def test_a_second_run_in_the_folder_is_refused_on_all_ranks(tmp_path):
    """The first, a single process, is stopped meanwhile and goes on to its end; then the folder is free."""
    slow = "import time\nfrom qgface_plugin.training.step import TrainStep\ncall = TrainStep.__call__\n"
    slow += "TrainStep.__call__ = lambda *a: time.sleep(0.2) or call(*a)\n"
    path = recipe(tmp_path, "run", extra=slow)
    single = [sys.executable, "train_v2.py", str(path)]
    first = subprocess.Popen(single, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        metrics = tmp_path / "run" / "metrics.jsonl"
        until = time.monotonic() + 60
        while not (metrics.exists() and metrics.read_text()) and time.monotonic() < until:
            time.sleep(0.1)
        first.send_signal(signal.SIGSTOP)
        time.sleep(1.0)  # a write that is under way comes to its end
        before = {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in (tmp_path / "run").iterdir()}
        command = [*LAUNCHER, "--nproc_per_node=2", "train_v2.py", str(path)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=90)
        after = {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in (tmp_path / "run").iterdir()}
        assert done.returncode == 1 and "exitcode  : 2" in done.stderr
        said, _, report = done.stderr.partition("FAILED\n")  # by the ranks, and by torchrun
        assert said.count(f"process {first.pid} on") == report.count(f"process {first.pid} on") == 2, done.stderr
        assert done.stderr.count("Traceback") <= 1, done.stderr
        assert before == after
    finally:
        first.send_signal(signal.SIGCONT)
    said = first.communicate(timeout=90)[1].decode()
    assert first.returncode == 0, said
    assert not (tmp_path / "run" / "run.lock").exists()


@pytest.mark.long
def test_ranks_end_with_their_torchrun_and_the_next_start_takes_over(tmp_path):
    slow = "import time\nfrom qgface_plugin.training.step import TrainStep\ncall = TrainStep.__call__\n"
    slow += "TrainStep.__call__ = lambda *a: time.sleep(0.3) or call(*a)\nconfig.resume = True\n"
    path = recipe(tmp_path, "run", extra=slow + "config.qgface.train.checkpoint_every = 1\n")
    command = [*LAUNCHER, "--nproc_per_node=2", "train_v2.py", str(path)]
    first = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < until:
        time.sleep(0.1)
    first.kill()
    started = time.monotonic()
    said = first.stderr.read().decode()  # to its end: the ranks hold it open as long as they live
    assert time.monotonic() - started < 10 and "torchrun is gone" in said
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "was left by process" in (tmp_path / "run" / "training.log").read_text()

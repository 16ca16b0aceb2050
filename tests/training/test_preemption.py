"""SIGTERM, SIGHUP and Ctrl-C are taken note of, in the main thread and until the end of the block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from crashes import LAUNCHER, ROOT, environment, recipe

from qgface_plugin.training.preemption import EXIT_STATUS, NAMES, watch_for_stop


@pytest.fixture(autouse=True)
def heeded():
    """Ctrl-C as at a terminal: a shell lets what it starts in the background ignore it, which is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


SLOW = """
import time
from qgface_plugin.training.step import TrainStep
call = TrainStep.__call__
TrainStep.__call__ = lambda *a: time.sleep({seconds}) or call(*a)
config.qgface.train.checkpoint_every = 100
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_is_noticed_once_or_twice_and_the_handler_of_before_comes_back(number, hangups):
    before = signal.getsignal(number)
    with watch_for_stop() as watch:
        assert not watch.wanted()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert watch.wanted() and watch.signal == number
    assert signal.getsignal(number) is before
    with watch_for_stop() as watch:
        assert not watch.wanted()
    assert EXIT_STATUS == 143


def test_ctrl_c_says_what_it_does(capsys):
    with watch_for_stop() as watch:
        signal.raise_signal(signal.SIGINT)
        assert watch.signal == signal.SIGINT
    assert "once more ends the run at once" in capsys.readouterr().err


def test_what_is_ignored_stays_ignored():
    """Under nohup the terminal may go."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with watch_for_stop() as watch:
            signal.raise_signal(signal.SIGHUP)
            assert not watch.wanted()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_watches_nothing():
    found = []

    def start() -> None:
        with watch_for_stop() as watch:
            found.append((watch.wanted(), *map(signal.getsignal, NAMES)))

    before = [signal.getsignal(number) for number in NAMES]
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert found == [(False, *before)]


def started(folder, seconds: float, launcher: tuple[str, ...] = (sys.executable,)) -> subprocess.Popen:
    """A run that has logged a step, with data workers; in a group of its own, as a terminal has them."""
    path = recipe(folder, "run", extra=SLOW.format(seconds=seconds) + "config.num_workers = 1\n")
    command = [*launcher, "train_v2.py", str(path)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    metrics, until = folder / "run" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)])
def test_a_run_that_is_interrupted_saves_and_leaves(tmp_path, number):
    process = started(tmp_path, 0.3)
    os.killpg(process.pid, number)  # its workers too, as Ctrl-C at a terminal
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 128 + number and "Traceback" not in said, said
    assert said.count(f"{NAMES[number]}: stopped and saved after step") == 1
    assert (tmp_path / "run" / "checkpoint_gpu_0.pt").exists() and not (tmp_path / "run" / "run.lock").exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_ranks_of_a_torchrun_that_is_interrupted_save_and_leave(tmp_path, number):
    process = started(tmp_path, 0.3, (*LAUNCHER, "--nproc_per_node=2"))
    os.killpg(process.pid, number)
    said = process.communicate(timeout=90)[1].decode()
    assert said.count(f"{NAMES[number]}: stopped and saved after step") == 2, said
    assert {"checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert not (tmp_path / "run" / "run.lock").exists()


def test_the_second_ctrl_c_ends_it_at_once(tmp_path):
    process = started(tmp_path, 3.0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=2) == -signal.SIGINT
    process.stderr.close()
    assert not (tmp_path / "run" / "checkpoint_gpu_0.pt").exists()


STUCK = """
import os, time
from qgface_plugin import launch
from qgface_plugin.data.procedural import dataset
from qgface_plugin.data.sources import records
from qgface_plugin.evaluation.protocols import pair_sets
from qgface_plugin.training import build, trainer
from qgface_plugin.training.trainer import Trainer
from qgface_plugin.data.pair_dataset import PairDataset
def hang(owner, name):
    original = getattr(owner, name)
    def hanging(*arguments, **options):
        if os.environ.get("RANK", "0") in {ranks!r}:
            open({mark!r}, "a").close()
            for _ in range(600):  # interrupted by what a handler raises, and by that alone
                try:
                    time.sleep(0.1)
                except Exception:
                    pass
        return original(*arguments, **options)
    setattr(owner, name, hanging)
"""
PLACES = {
    "drawing": "hang(dataset, 'draw_face')",
    "opening": "hang(records.FaceRecords, 'check')",
    "sets": "hang(build, 'open_pair_sets')",
    "building": "hang(build, 'make_backbone')",
    "resuming": "hang(Trainer, 'resume')",
    "first batch": "hang(PairDataset, '__getitems__')",
    "recipe": "hang(time, 'localtime')\ntime.localtime()",
}


def stuck(folder, place: str, ranks: tuple[str, ...] = ("0", "1"), launcher: tuple[str, ...] = (sys.executable,)):
    """A run that has come to the place and stays there."""
    mark = folder / "there"
    path = recipe(folder, "run", extra=STUCK.format(ranks=ranks, mark=str(mark)) + PLACES[place] + "\n")
    process = subprocess.Popen(
        [*launcher, "train_v2.py", str(path)], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("drawing", signal.SIGTERM),
        ("first batch", signal.SIGINT),
        *(pytest.param(p, n, marks=pytest.mark.long) for p in PLACES for n in NAMES),
    ],
)
def test_before_the_first_step_it_leaves_at_once_and_nothing_stays(tmp_path, place, number):
    process = stuck(tmp_path, place)
    process.send_signal(number)
    sent = time.monotonic()
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 128 + number and time.monotonic() - sent < 5, said
    assert f"{NAMES[number]}: stopped while" in said and said.count("\n") == 1, said
    assert not (tmp_path / "run").exists() and (place != "drawing" or not (tmp_path / "faces").exists())


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("whom", ["torchrun", "rank 0", "rank 1"])
def test_ranks_leave_together_before_the_first_step(tmp_path, place, whom):
    """The signal goes to torchrun, which hands it on, or to one rank, of which the other one hears."""
    process = stuck(tmp_path, place, ("0", "1"), (*LAUNCHER, "--nproc_per_node=2"))
    pid = process.pid
    if whom != "torchrun":
        time.sleep(2.0)  # both are there
        pid = rank_of(process.pid, int(whom[-1]))
    os.kill(pid, signal.SIGTERM)
    sent = time.monotonic()
    said = process.communicate(timeout=60)[1].decode()
    assert time.monotonic() - sent < 30, said
    assert said.count("SIGTERM: stopped while") >= 1 and "ended without giving a reason" not in said, said
    assert not (tmp_path / "run" / "recipe.json").exists() and not (tmp_path / "run" / "run.lock").exists()


def rank_of(launcher: int, rank: int) -> int:
    """The process id of a rank."""
    children = open(f"/proc/{launcher}/task/{launcher}/children").read().split()
    ranks = {}
    for pid in children:
        environ = open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
        ranks.update({int(entry[5:]): int(pid) for entry in environ if entry.startswith(b"RANK=")})
    return ranks[rank]

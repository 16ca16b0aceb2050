"""torchrun --max-restarts=3 with ranks killed in the middle of steps and of checkpoint writes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crashes import LAUNCHER, ROOT, environment, launch, outcome, recipe
from tiny import same


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of a run on two ranks that nothing has happened to."""
    folder = tmp_path_factory.mktemp("crash")
    done = launch(recipe(folder, "undisturbed"))
    assert done.returncode == 0, done.stderr
    assert len(outcome(folder, "undisturbed")["lines"]) == 6  # 10 steps: 4 lines, 2 verifications
    return folder


def check(folder: Path, name: str, faults: list, kills: int) -> None:
    done = launch(recipe(folder, name, faults))
    assert done.returncode == 0, done.stderr[-3000:]
    log = (folder / name / "training.log").read_text()
    assert log.count("torchrun has started this run again") == kills, log
    assert same(outcome(folder, name), outcome(folder, "undisturbed")), faults


@pytest.mark.long
def test_killed_in_a_step_and_in_a_checkpoint_write(undisturbed):
    """Rank 1 in its fifth step, after the checkpoint of step 3; then rank 0 while it writes that of step 6, which
    rank 1 may have finished."""
    check(undisturbed, "twice", [(0, 1, "forward", 5), (1, 0, "write", 2)], kills=2)
    log = (undisturbed / "twice" / "training.log").read_text()
    assert log.count("resumed after step 3") == 2


PLACES = {"forward": 10, "update": 5, "write": 8, "link": 3, "replace": 8, "prune": 4}  # calls in an undisturbed run


@pytest.mark.long
@pytest.mark.parametrize("seed", range(7))
def test_killed_three_times_at_random(undisturbed, seed):
    """21 kills in all: in a step, in an update, at each stage of a write, or at any time."""
    draw = random.Random(seed)
    faults = []
    for start in range(3):
        place = draw.choice([*PLACES, "time"])
        number = draw.uniform(0.0, 0.5) if place == "time" else draw.randint(1, max(1, PLACES[place] // 2))
        faults.append((start, draw.randrange(2), place, number))
    done = launch(recipe(undisturbed, f"random{seed}", faults))
    assert done.returncode == 0, done.stderr[-3000:]
    assert same(outcome(undisturbed, f"random{seed}"), outcome(undisturbed, "undisturbed")), faults
    log = (undisturbed / f"random{seed}" / "training.log").read_text()
    print(faults, "kills that struck:", log.count("torchrun has started this run again"))


@pytest.mark.long
@pytest.mark.parametrize("torchrun", [False, True], ids=["python", "torchrun"])
def test_sigterm_saves_and_leaves(undisturbed, torchrun):
    """Sent from outside in the middle of the run; the run then goes on with another launch."""
    name = f"sigterm{torchrun}"
    slow = "import time\nfrom qgface_plugin.training.step import TrainStep\ncall = TrainStep.__call__\n"
    slow += "TrainStep.__call__ = lambda *a: time.sleep(0.5) or call(*a)\n"
    path = recipe(undisturbed, name, extra=slow)
    head = [*LAUNCHER, "--nproc_per_node=2"] if torchrun else [sys.executable]
    process = subprocess.Popen([*head, "train_v2.py", str(path)], cwd=ROOT, env=environment(), stderr=subprocess.PIPE)
    metrics = undisturbed / name / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1].decode()
    assert "SIGTERM: stopped and saved after step" in said
    assert process.returncode == (1 if torchrun else 143), said
    path = recipe(undisturbed, name, extra="config.resume = True\n")
    if torchrun:
        assert launch(path).returncode == 0
        assert same(outcome(undisturbed, name), outcome(undisturbed, "undisturbed"))
    else:
        assert subprocess.run([sys.executable, "train_v2.py", str(path)], cwd=ROOT, env=environment()).returncode == 0
        assert outcome(undisturbed, name, ranks=1)["lines"][-1]["step"] == 20

"""A fixed part of the fuzz (tests/fuzz), and that it finds what it looks for."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fuzz import guard, records
from fuzz.__main__ import SHARES
from fuzz.case import Case
from fuzz.engine import TARGETS, make_case, run_target
from fuzz.guard import Finding, Guard
from fuzz.mutate import Damaged, damage
from paths import TESTS

from qgface_plugin.utils.errors import DataError

COUNTS = {"recordio": 200, "bin": 120, "image": 120, "checkpoint": 60, "onnx": 24}  # of the others 40
SCRIPT = TESTS / "fuzz"


@pytest.mark.parametrize("target", TARGETS)
def test_no_findings(target: str, tmp_path: Path) -> None:
    count = COUNTS.get(target, 40)
    result = run_target(target, 5, range(count), tmp_path)
    assert result["findings"] == [] and result["cases"] == count
    assert result["refused"] > count // 4 and result["served"] > 0


def test_all_targets_have_a_share() -> None:
    assert SHARES.keys() == TARGETS.keys() and sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("target", TARGETS)
def test_a_case_is_made_again_from_its_number(target: str) -> None:
    first, again, other = (make_case(target, 3, number).files for number in (17, 17, 18))
    assert first == again != other


def test_origins_follow_every_mutation() -> None:
    """Each byte that is said to be another file's, unchanged, is that byte."""
    data = np.random.default_rng(0).bytes(3000)
    file, other = Damaged.whole(data[:2000]), Damaged.whole(data[2000:], start=2000)
    assert file.untouched()
    for seed in range(300):
        out = damage(file, np.random.default_rng(seed), [0, 900], other)
        kept = (out.origin >= 0) & ~out.changed
        assert out.data[kept].tobytes() == bytes(data[at] for at in out.origin[kept])
        assert not np.any(out.data[out.changed] == np.frombuffer(data, np.uint8)[out.origin[out.changed]])


def outcome(check) -> str:  # noqa: ANN001
    try:
        return type(Guard().run(100, check)[1]).__name__
    except Finding as finding:
        return finding.kind


def refuse(error: Exception) -> None:
    raise error


def hidden() -> None:
    try:
        np.empty(1 << 40, dtype=np.uint8)
    except MemoryError as error:
        raise DataError("damaged") from error


def test_the_guard_tells_what_a_case_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(lambda: 3) == "NoneType" and outcome(lambda: refuse(DataError("x"))) == "DataError"
    assert outcome(lambda: refuse(KeyError("x"))) == "exception" and outcome(lambda: refuse(MemoryError())) == "memory"
    assert outcome(hidden) == "memory"  # an allocation that was refused, whatever was made of it
    fresh = bytes(guard.ALLOWANCE + (1 << 20))
    assert outcome(lambda: mmap.mmap(-1, len(fresh)).write(fresh)) == "memory"  # pages that nothing had before
    monkeypatch.setattr(guard, "CPU_SECONDS", 0.01)
    until = time.process_time() + 0.1
    assert outcome(lambda: all(time.process_time() < until for _ in iter(int, 1))) == "time"


def test_workers_that_hang_or_die_are_findings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def case(target: str, seed: int, number: int) -> Case:
        acts = {
            50: lambda _: os.kill(os.getpid(), 9),
            51: lambda _: time.sleep(60),
            52: lambda _: refuse(KeyError("x")),
        }
        return Case({"a": b"x"}, acts.get(number, lambda _: 1))

    monkeypatch.setattr("fuzz.engine.make_case", case)
    monkeypatch.setattr("fuzz.engine.CASE_SECONDS", 2.0)
    result = run_target("recordio", 1, range(48, 55), tmp_path)
    assert [(finding["case"], finding["kind"]) for finding in result["findings"]] == [
        (50, "crash"), (51, "time"), (52, "exception")
    ]  # fmt: skip
    assert result["cases"] == 7 and result["accepted"] == 4
    assert (tmp_path / "recordio-1-52" / "a").read_bytes() == b"x"
    assert "KeyError" in (tmp_path / "recordio-1-52" / "traceback.txt").read_text()


def test_a_wrong_label_is_told_from_damage_to_the_label() -> None:
    seed = records.seeds()[0]
    start = seed.starts[1]
    with pytest.raises(Finding, match="label 2, the undamaged file says 0"):
        records.judge(seed.rec, start, 2, "here")
    with pytest.raises(Finding, match="comes from bytes that are no label"):
        records.judge(seed.rec.over(start + 8, b"\1"), start, 2, "here")  # the flag, not the label
    records.judge(seed.rec.over(start + 12, b"\0\0\0\x40"), start, 2, "here")


def test_command_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    done = run("--target", "bin", "--cases", "30", "--seed", "4", "--json", "out.json")
    assert done.returncode == 0 and done.stdout.startswith("seed 4\n") and "findings" in done.stdout
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary["seed"] == 4 and summary["targets"]["bin"]["cases"] == 30
    wrong = run("--case", "3")
    assert wrong.returncode == 2 and "--case needs one --target" in wrong.stderr

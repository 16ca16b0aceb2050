"""Runs cases in a process of their own, which may hang or die without taking the run with it."""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.case import Case
from fuzz.guard import Finding, Guard

# target -> module of this folder and the function in it that makes a case
TARGETS = {
    "recordio": "records.make",
    "bin": "pairs.make",
    "image": "pixels.make",
    "checkpoint": "checkpoints.make",
    "weights": "weights.make",
    "lst": "lists.make_list",
    "property": "lists.make_property",
    "landmarks": "lists.make_landmarks",
    "pairs": "lists.make_pairs",
    "ijb": "protocols.make_ijb",
    "scface": "protocols.make_scface",
    "mat": "protocols.make_mat",
    "features": "saved.make_features",
    "results": "saved.make_results",
    "metrics": "saved.make_metrics",
    "onnx": "graphs.make",
}
CASE_SECONDS = 60.0  # by the clock, for a case that does nothing any more; CPU time has a stricter limit
WARM_UP = 20  # cases that are run, and judged, before memory is compared to what is in use


def make_case(target: str, seed: int, number: int) -> Case:
    """Case `number` of a run, the same wherever and whenever it is made."""
    module, _, maker = TARGETS[target].partition(".")
    make = getattr(importlib.import_module(f"fuzz.{module}"), maker)
    return make(np.random.default_rng([seed, zlib.crc32(target.encode()), number]))


def run_case(case: Case, guard: Guard, folder: Path) -> tuple[int | None, Exception | None]:
    """Write the files, run the check under the guard; what was served, or the error of the project."""
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    _write(case, folder)
    return guard.run(case.size, lambda: case.check(folder))


def _write(case: Case, folder: Path) -> None:
    for name, data in case.files.items():
        if "/" in name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def run_target(
    target: str, seed: int, cases: range, keep_in: Path, progress: Callable[[int, int], None] = lambda done, found: None
) -> dict[str, Any]:
    """All cases of one target, in a worker that is replaced when it hangs or dies.

    Returns counts: cases, refused, accepted, served items, findings (dicts), the slowest case's CPU seconds, the most
    bytes touched beyond the start, and how often each of the project's errors came.
    """
    total: dict[str, Any] = {"cases": 0, "refused": 0, "accepted": 0, "served": 0, "findings": [], "errors": Counter()}
    total |= {"cpu_seconds_of_slowest": 0.0, "peak_bytes": 0}
    began, at = time.monotonic(), cases.start
    importlib.import_module(f"fuzz.{TARGETS[target].partition('.')[0]}")  # once, and not by each worker
    while at < cases.stop:
        receive, send = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.get_context("fork").Process(target=_work, args=(target, seed, at, cases.stop, send))
        worker.start()
        send.close()
        while at < cases.stop:
            message = _received(receive)
            if message is None:
                break
            _count(total, message, target, seed, keep_in)
            at = message["number"] + 1
            progress(at - cases.start, len(total["findings"]))
        if at < cases.stop:  # the worker stopped in the middle of case `at`
            worker.join(1.0)
            hung = worker.is_alive()
            worker.kill()
            worker.join()
            text = f"no end after {CASE_SECONDS:.0f} s" if hung else f"the process ended with {worker.exitcode}"
            finding = ["time" if hung else "crash", text, ""]
            _count(total, {"number": at, "finding": finding, "cpu": 0.0, "peak": 0}, target, seed, keep_in)
            at += 1
        worker.join()
        receive.close()
    total["seconds"] = round(time.monotonic() - began, 1)
    total["errors"] = dict(total["errors"].most_common())
    return total


def _received(receive: Connection) -> dict[str, Any] | None:
    """The next message; None when the worker is gone, or has not said anything for too long."""
    try:
        return receive.recv() if receive.poll(CASE_SECONDS) else None
    except (EOFError, OSError):
        return None


def _work(target: str, seed: int, start: int, stop: int, send: Connection) -> None:
    """The worker: one message a case."""
    folder = Path(tempfile.mkdtemp(prefix="qgface-fuzz-"))
    logging.disable()
    with open(os.devnull, "wb") as nowhere:  # what the decoders in C say about damaged files
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        warm_folder = folder / "cases"
        warm_folder.mkdir()
        guard = Guard()
        for number in range(WARM_UP):
            try:
                run_case(make_case(target, seed + 1, number), guard, warm_folder)
            except Finding:
                pass
        guard = Guard()
        for number in range(start, stop):
            send.send({"number": number} | judged(make_case(target, seed, number), guard, warm_folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def judged(case: Case, guard: Guard, folder: Path) -> dict[str, Any]:
    """What came of a case: "served", or "error" (of the project), or "finding"."""
    found: dict[str, Any] = {}
    try:
        served, error = run_case(case, guard, folder)
        found = {"served": served} if error is None else {"error": type(error).__name__}
    except Finding as finding:
        found = {"finding": [finding.kind, str(finding), traceback.format_exc()]}
    return found | {"cpu": guard.slowest, "peak": guard.peak}


def _count(total: dict[str, Any], message: dict[str, Any], target: str, seed: int, keep_in: Path) -> None:
    total["cases"] += 1
    total["cpu_seconds_of_slowest"] = round(max(total["cpu_seconds_of_slowest"], message["cpu"]), 3)
    total["peak_bytes"] = max(total["peak_bytes"], message["peak"])
    if "finding" in message:
        total["findings"].append(_keep(message, target, seed, keep_in))
    elif "error" in message:
        total["refused"] += 1
        total["errors"][message["error"]] += 1
    else:
        total["accepted"] += 1
        total["served"] += message["served"]


def _keep(message: dict[str, Any], target: str, seed: int, keep_in: Path) -> dict[str, Any]:
    """Save the files of a failing case, how it failed, and the command that runs it again."""
    kind, text, trace = message["finding"]
    number = message["number"]
    case, folder = make_case(target, seed, number), keep_in / f"{target}-{seed}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(case, folder)
    command = f"python tests/fuzz --target {target} --seed {seed} --case {number}"
    finding = {"target": target, "case": number, "kind": kind, "text": text, "note": case.note, "command": command}
    (folder / "finding.json").write_text(json.dumps(finding, indent=1) + "\n")
    (folder / "traceback.txt").write_text(trace)
    return {**finding, "files": os.fspath(folder)}

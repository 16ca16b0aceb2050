"""Steps of several kinds in turn, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

UNITS = ("ms", "ms of CPU")

Times = dict[str, list[tuple[float, float]]]  # by name, for each round: seconds, seconds of processor time


def interleaved(steps: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> Times:
    """Each step once a round, after a round that is not counted. On a GPU work is waited for before and after."""
    times: Times = {name: [] for name in steps}
    for turn in tqdm(range(rounds + 1), desc="rounds", leave=False, disable=None):
        for name, step in steps.items():
            wait(device)
            began, began_cpu = time.perf_counter(), time.process_time()
            step()
            wait(device)
            if turn:
                times[name].append((time.perf_counter() - began, time.process_time() - began_cpu))
    return times


def medians(times: Times) -> dict[str, dict[str, float]]:
    """Milliseconds of each, by the clock and of the processor."""
    return {
        name: {
            unit: 1e3 * statistics.median(column) for unit, column in zip(UNITS, zip(*rounds, strict=True), strict=True)
        }
        for name, rounds in times.items()
    }


def ratio(times: Times, one: str, other: str, device: torch.device) -> float:
    """Median over the rounds of one's time by the other's: by the clock on a GPU, of the processor on a CPU."""
    kind = 0 if device.type == "cuda" else 1
    return statistics.median(a[kind] / b[kind] for a, b in zip(times[one], times[other], strict=True))


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def extra_bytes(step: Callable[[], object], device: torch.device) -> int:
    """The most that a step allocates beyond what is there before it, as torch's allocator counts it."""
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _without_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


@contextmanager
def _without_stderr() -> Iterator[None]:
    """The profiler's native code reports there that it starts and stops."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)

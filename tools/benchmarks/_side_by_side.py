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


def interleaved(steps: Mapping[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, dict]:
    """Medians over `rounds` rounds, after one that is not counted: {name: {"ms", "ms of CPU"}}. On a GPU work is
    waited for before and after each step."""
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for turn in tqdm(range(rounds + 1), desc="rounds", leave=False, disable=None):
        for name, step in steps.items():
            wait(device)
            began, began_cpu = time.perf_counter(), time.process_time()
            step()
            wait(device)
            if turn:
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - began_cpu)
    return {
        name: {"ms": 1e3 * statistics.median(wall[name]), "ms of CPU": 1e3 * statistics.median(cpu[name])}
        for name in steps
    }


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def extra_bytes(step: Callable[[], None], device: torch.device) -> int:
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

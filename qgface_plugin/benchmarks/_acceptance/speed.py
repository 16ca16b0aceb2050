"""Checks of the acceptance that measure: memory, steps against plain ones, idle time, degradation there."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ...config.degradation import PRESETS
from ...data.degradation.gpu import both_views
from ...data.pair_dataset import PairDataset
from ...loss.memory_plan import plan_memory
from .. import criterion as criterion_benchmark
from .. import step as step_benchmark
from .._side_by_side import extra_bytes, wait
from .check import Check, Found, Place, Skipped
from .numbers import a_batch, faces

CLASSES = 8631


def memory(place: Place) -> Found:
    """A step of the criterion against what `qgface plan-memory` says."""
    classes, rows, dim = (600, 32, 32) if place.small else (85742, 256, 512)
    out = criterion_benchmark.full(dim, classes).to(place.device)
    features, labels = criterion_benchmark.batch(rows, dim, classes, 0.3)
    features, labels = features.to(place.device), labels.to(place.device)

    def step() -> None:
        out.weight.grad = None
        out(features.detach().requires_grad_(), labels).backward()

    step()
    step()
    out.weight.grad = None
    found = extra_bytes(step, place.device)
    plan = plan_memory(classes, dim=dim, rows=rows, cuda=place.device.type == "cuda")
    planned = plan.step + plan.gradient
    figures = {"bytes": found, "planned": planned}
    return Found(found <= 1.15 * planned, f"{found / planned:.2f} of the {planned / 2**20:.0f} MiB planned", figures)


STEPS: dict[str, dict[str, Any]] = {
    "bfloat16, channels_last": {"precision": "bfloat16", "channels_last": True},
    "the same, compiled": {"precision": "bfloat16", "channels_last": True, "compile": True},
    "float16": {"precision": "float16"},
}


def steps(place: Place) -> Found:
    """r34, 128 pairs: the median step against plain ArcFace's."""
    figures = {}
    for name, options in list(STEPS.items())[: 1 if place.small else None]:
        given = _arguments(place, **(options if not place.small else {}))
        figures[name] = step_benchmark.run(given)
    ratios = {name: one[f"{step_benchmark.OURS} / {step_benchmark.PLAIN}"] for name, one in figures.items()}
    good = max(ratios.values()) <= 1.02
    return Found(good, ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items()), figures)


def _arguments(place: Place, **options: Any) -> argparse.Namespace:
    small = dict(network="quick", batch=4, classes=40, rounds=1) if place.small else {}
    settings = dict(
        network="r34", batch=128, classes=CLASSES, lq_share=0.3, rounds=25, threads=torch.get_num_threads(),
        device=str(place.device), precision="float32", channels_last=False, compile=False,
    )  # fmt: skip
    return argparse.Namespace(**{**settings, **small, **options})


def against_partial_fc(place: Place) -> Found:
    if place.checkout is None:
        raise Skipped("no arcface_torch checkout: --arcface-torch DIR")
    given = argparse.Namespace(
        classes=[8631, 85742], rows=256, lq_share=0.3, dim=512, rounds=15, threads=torch.get_num_threads(),
        device=place.device.type, new_pages=False, arcface_torch=place.checkout,
    )  # fmt: skip
    figures = criterion_benchmark.run(given)
    name = f"{criterion_benchmark.OURS} / {criterion_benchmark.UPSTREAM}"
    ratios = {key: one[name] for key, one in figures.items() if isinstance(one, dict)}
    said = ", ".join(f"{key} {ratio:.2f}" for key, ratio in ratios.items())
    return Found(max(ratios.values()) <= 1.0, said, figures)


def idle(place: Place) -> Found:
    """Share of ten steps in which no kernel runs, and the kernels of a step."""
    there = place.device.type == "cuda"
    network, pairs, rounds = ("quick", 4, 2) if place.small else ("r34", 128, 10)
    step = step_benchmark.step_for(
        network, 40 if place.small else CLASSES, "bfloat16" if there else "float32", place.device
    )
    batches = [a_batch(faces(place), pairs, number) for number in range(2)]

    def take(count: int) -> None:
        for number in range(count):
            if step(batches[number % 2], number + 1) is None and len(step._verdicts) > 1:
                step.verdict()

    take(4)
    wait(place.device)
    with profile(activities=[ProfilerActivity.CUDA] if there else [ProfilerActivity.CPU]) as record:
        began = time.perf_counter()
        take(rounds)
        wait(place.device)
        whole = time.perf_counter() - began
    events = [event for event in record.profiler.kineto_results.events() if event.duration_ns() > 0]
    busy, until = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        start, end = max(event.start_ns(), until), event.start_ns() + event.duration_ns()
        busy, until = busy + max(0, end - start), max(until, end)
    share = 1.0 - busy / 1e9 / whole
    figures = {"idle": share, "kernels of a step": len(events) / rounds, "ms of a step": 1e3 * whole / rounds}
    return Found(share <= 0.05, f"{share:.3f} of the time, {len(events) / rounds:.0f} kernels a step", figures)


def degradation(place: Place) -> Found:
    """The same plans on the CPU and there: how far the pixels are apart; and pairs a second there."""
    dataset = PairDataset(faces(place).source, PRESETS["ours"], 0, degrade_on="device")
    pairs = 8 if place.small else 128
    batch = a_batch(dataset, pairs, 0)
    here, moved = both_views(batch, PRESETS["ours"]), batch.to(place.device)
    there = both_views(moved, PRESETS["ours"])
    assert here.low is not None and there.low is not None
    apart = (here.low.float() - there.low.cpu().float()).abs()
    rounds = 2 if place.small else 50
    wait(place.device)
    began = time.perf_counter()
    for _ in range(rounds):
        both_views(moved, PRESETS["ours"])
    wait(place.device)
    rate = rounds * pairs / (time.perf_counter() - began)
    figures = {"mean": float(apart.mean()), "share above 2": float((apart > 2).float().mean()), "pairs a second": rate}
    said = f"{apart.mean():.3f} of 255 on average, {rate:.0f} pairs a second"
    return Found(bool(apart.mean() <= 0.1), said, figures)


CHECKS = [
    Check("peak memory of the criterion", "1.15 of what plan-memory says, at most", memory, 40),
    Check("a step, by plain ArcFace's", "1.02 at most", steps, 200),
    Check("the criterion, by PartialFC_V2", "1.0 at most", against_partial_fc, 60),
    Check("idle time of a step", "0.05 at most", idle, 60),
    Check("degradation there, against the CPU", "0.1 grey levels on average, at most", degradation, 40),
]

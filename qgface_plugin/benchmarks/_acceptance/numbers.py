"""Checks of the acceptance that compare numbers: the criterion, bad steps, batches on their way, embeddings."""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ... import QGFaceMargin, QGPartialFC
from ...config.degradation import PRESETS
from ...config.method import AUTHORS, QGFaceConfig
from ...data.loader import Prefetcher
from ...data.pair_batch import PairBatch
from ...data.pair_dataset import PairDataset
from ...data.procedural.dataset import write_dataset
from ...data.sources.records import FaceRecords
from ...models.backbones import get_model
from ...training.step import TrainStep
from ...utils.device import DTYPES
from ..step import step_for
from .check import Check, Found, Place

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "authors": dict(AUTHORS),
    "no queue": {"queue": "none"},
    "batch": {"queue": "batch"},
    "momentum": {"queue": "momentum"},
    "small queue": {"queue_size": 64},
    "quantile": {"b_quantile": 0.4},
    "no gates": {"classification_gate": "none", "contrastive_gate": "none"},
    "curricularface": {"margin": "curricularface"},
    "magface": {"margin": "magface"},
    "certainty": {"quality": "certainty"},
    "sampled": {"sample_rate": 0.3},
}
ERRORS = {"float32": 1e-4, "float16": 3e-2}


def faces(place: Place, identities: int = 16) -> PairDataset:
    """Pairs of drawn faces."""
    folder = place.folder / "faces"
    write_dataset(folder, identities, 4, 2, 0)
    return PairDataset(FaceRecords(folder), PRESETS["ours"], 0)


def a_batch(dataset: PairDataset, pairs: int, number: int) -> PairBatch:
    """The pairs of a step, as a loader gives them: in memory of their own, which the data set uses again."""
    count = len(dataset.source)
    batch = dataset.__getitems__([(number, (number * pairs + index) % count) for index in range(pairs)])
    return batch.pin_memory() if torch.cuda.is_available() else deepcopy(batch)


def criterion_steps(device: torch.device, half: bool, small: bool, options: dict[str, Any]) -> list[Tensor]:
    """Losses and gradients of three steps, on the CPU."""
    classes, dim, pairs = (300, 32, 12) if small else (8631, 512, 64)
    rest = dict(options)
    rate = rest.pop("sample_rate", 1.0)
    torch.manual_seed(1)
    margin = QGFaceMargin.from_config(QGFaceConfig.from_mapping({"b": 0.4, "stats_momentum": 0.3, **rest}))
    out = QGPartialFC(margin, dim, classes, rate, half).to(device)
    found: list[Tensor] = []
    for number in range(3):
        drawn = torch.Generator().manual_seed(number)
        raw = torch.randn(2 * pairs, dim, generator=drawn) * (1 + 0.3 * torch.rand(2 * pairs, 1, generator=drawn))
        raw = raw.to(device).requires_grad_()
        labels = torch.randint(0, classes, (pairs,), generator=drawn).repeat(2).to(device)
        loss = out(raw, labels, raw.detach() * 0.9 if margin.config.queue == "momentum" else None)
        out.weight.grad = None
        loss.backward()
        assert raw.grad is not None and out.weight.grad is not None
        found += [loss.detach().cpu(), raw.grad.cpu(), out.weight.grad.cpu()]
        with torch.no_grad():
            out.weight.add_(out.weight.grad, alpha=-0.01)
    return found


def criterion(place: Place) -> Found:
    torch.backends.cuda.matmul.allow_tf32 = False
    worst: dict[str, tuple[float, str]] = {}
    figures = {}
    for name, options in SETTINGS.items():
        here = criterion_steps(torch.device("cpu"), False, place.small, options)
        for precision in ERRORS:
            there = criterion_steps(place.device, precision == "float16", place.small, options)
            error = max(float((a - b).norm() / a.norm().clamp_min(1e-12)) for a, b in zip(here, there, strict=True))
            figures[f"{name}, {precision}"] = error
            worst[precision] = max(worst.get(precision, (0.0, "")), (error, name))
    good = all(error <= ERRORS[precision] for precision, (error, _) in worst.items())
    said = ", ".join(f"{precision} {error:.1e} ({name})" for precision, (error, name) in worst.items())
    return Found(good, said, figures)


def waits(place: Place) -> Found:
    """Of a steady default step, by torch's own account."""
    dataset, figures = faces(place), {}
    for precision in ("float32",) if place.small else tuple(DTYPES):
        step = step_for("quick" if place.small else "r34", 100, precision, place.device)
        pairs = 4 if place.small else 16
        batches = [a_batch(dataset, pairs, number) for number in range(5)]
        for number, batch in enumerate(batches[:3], 1):
            _take(step, batch, number)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if place.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            try:
                for number, batch in enumerate(batches[3:], 4):
                    _take(step, batch, number)
            finally:
                if place.device.type == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
        places = [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]
        figures[precision] = {"where": places}
    total = sum(len(one["where"]) for one in figures.values())
    return Found(total == 0, f"{total} in {2 * len(figures)} steps", figures)


def _take(step: TrainStep, batch: PairBatch, number: int) -> bool | None:
    """As the trainer does: the verdict of the step before, None where there is none."""
    good = step(batch, number)
    return good if good is not None or number == 1 else step.verdict()


def overflow(place: Place) -> Found:
    """Steps in float16; one of them has a gradient that is not finite, and must leave all buffers as they were."""
    dataset, figures, problems = faces(place), {}, []
    steps, pairs = (12, 4) if place.small else (200, 32)
    for network in ("quick",) if place.small else ("r34", "mbf"):
        torch.manual_seed(0)
        step = step_for(network, 200, "float16", place.device)
        verdicts, bad_at = [], steps // 2
        for number in range(1, steps + 1):
            batch = a_batch(dataset, pairs, number % 8)
            if number != bad_at:
                verdicts.append(_at_once(step, batch, number))
                continue
            before = [buffer.clone() for buffer in _buffers(step)]
            hook = step.criterion.weight.register_hook(lambda gradient: gradient * torch.inf)
            verdicts.append(_at_once(step, batch, number))
            hook.remove()
            same = all(torch.equal(a, b) for a, b in zip(before, _buffers(step), strict=True))
            if verdicts[-1] or not same:
                problems.append(f"{network}: the bad step {'was taken' if verdicts[-1] else 'left something'}")
        first, others = verdicts[:5].count(False), verdicts[5:].count(False) - 1
        if others > max(2, steps // 50):
            problems.append(f"{network}: {others} bad steps after the first 5")
        figures[network] = {"bad of the first 5": first, "bad of the others": others, "scale": step.scaler.get_scale()}
    said = ", ".join(
        f"{network} {one['bad of the first 5']} + {one['bad of the others']}" for network, one in figures.items()
    )
    return Found(not problems, "; ".join(problems) or f"bad steps: {said}, beside the injected one", figures)


def _at_once(step: TrainStep, batch: PairBatch, number: int) -> bool:
    good = step(batch, number)
    return step.verdict() if good is None else good


def _buffers(step: TrainStep) -> list[Tensor]:
    return [buffer for module in (step.backbone, step.criterion) for buffer in module.buffers()]


def prefetching(place: Place) -> Found:
    """What arrives while the main stream is busy is what was sent, and memory does not grow with the epochs."""
    dataset, pairs = faces(place), 4 if place.small else 64
    sent = [a_batch(dataset, pairs, number) for number in range(4)]
    expected = [int(_sum(batch)) for batch in sent]
    prefetcher, held, wrong = Prefetcher(place.device, PRESETS["ours"]), [], 0
    for _ in range(8):
        sums = []
        for batch in prefetcher(iter(sent)):
            if place.device.type == "cuda":
                torch.cuda._sleep(20_000_000)  # cycles, some 10 ms, before the batch is looked at
            sums.append(_sum(batch))
            del batch
        wrong += sum(int(one) != other for one, other in zip(sums, expected, strict=True))
        held.append(torch.cuda.memory_reserved(place.device) if place.device.type == "cuda" else 0)
    good = wrong == 0 and held[-1] == held[1]
    said = f"{wrong} wrong sums; {held[-1] - held[1]} bytes more after 8 epochs than after 2"
    return Found(good, said, {"bytes": held})


def _sum(batch: PairBatch) -> Tensor:
    return torch.stack([x.long().sum() for x in (batch.high, batch.low, batch.labels) if x is not None]).sum()


def embedding(place: Place) -> Found:
    torch.backends.cudnn.allow_tf32 = False
    dataset, figures = faces(place), {}
    images = a_batch(dataset, 8, 0).high.float() / 127.5 - 1
    for network in ("quick",) if place.small else ("r34", "mbf"):
        torch.manual_seed(0)
        model = get_model(network, num_features=512).eval()
        with torch.no_grad():
            here, there = model(images), model.to(place.device)(images.to(place.device)).cpu()
        figures[network] = float(cosine_similarity(here, there).min())
    lowest = min(figures.values())
    return Found(lowest >= 0.9999, f"{lowest:.6f} at least", figures)


CHECKS = [
    Check("criterion, against the CPU", "relatively 1e-4 in float32, 3e-2 in float16", criterion, 90),
    Check("waits of a steady step", "0", waits, 60),
    Check("200 steps in float16, one of them bad", "5 bad at the start, then 4 at most; nothing is left", overflow, 90),
    Check("prefetching under a busy stream", "sums as sent, memory flat", prefetching, 40),
]
EMBEDDING = Check("embedding, against the CPU", "cosine 0.9999 at least", embedding, 40)

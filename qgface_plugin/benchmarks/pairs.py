"""Degraded pairs per second and core, beside decoding alone, plain images, and the paper's steps one after the other.

All of them take the same images in turn, some rounds long; a figure is the median over the rounds of what one processor
core does (processor time, so other programs on the machine count little), a ratio the median of the rounds' ratios.
Then whole data loaders with several workers in turn, by the clock. Without --rec, 600 faces are drawn into a temporary
folder. The plain ways make the same pairs, one call after the other, with OpenCV and NumPy and, where it is
installed, Pillow.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..config.degradation import FILTERS, PRESETS, DegradationPolicy
from ..data.degradation.cpu import FLAGS
from ..data.degradation.params import BRIGHTNESS, CONTRAST, ViewParams, draw, uniforms
from ..data.images import decode_into
from ..data.pair_dataset import PairDataset, collate, worker_init
from ..data.procedural.dataset import write_dataset
from ..data.sources.records import FaceRecords
from ..utils.errors import ConfigError
from ..utils.python_3_14 import start_method
from ._pillow_pairs import pillow_pair

Ways = dict[str, Callable[[list[tuple[int, int]]], Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rec", metavar="PATH", help="a folder with train.rec, or a .rec file")
    parser.add_argument("--policy", choices=sorted(PRESETS), default="ours", help="degradation [%(default)s]")
    parser.add_argument("--batch", type=int, default=128, help="pairs per batch [%(default)s]")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant [%(default)s]")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="loaders to time by the clock [1 2]")
    parser.add_argument("--batches", type=int, default=40, help="batches of such a loader in a turn [%(default)s]")
    parser.add_argument("--loader-rounds", type=int, default=7, help="turns of each loader [%(default)s]")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of every contestant, and what they are to each other."""
    given = arguments.batch, arguments.rounds, arguments.batches, arguments.loader_rounds
    if min(*given, *arguments.workers) < 1:
        raise ConfigError("--batch, --rounds, --batches, --loader-rounds and --workers must be at least 1")
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pairs_benchmark_") as scratch:
        rec = arguments.rec or write_dataset(scratch, 60, 10, 2, 0)
        source, policy = FaceRecords(rec), PRESETS[arguments.policy]
        dataset = PairDataset(source, policy, 0)
        figures = per_core(ways(dataset), len(source), arguments.batch, arguments.rounds)
        loaders = over_workers(dataset, arguments.workers, arguments.batch, arguments.batches, arguments.loader_rounds)
    return {**figures, "whole loaders": loaders} if loaders else figures


def ways(dataset: PairDataset) -> Ways:
    """The contestants: what each does with a batch of places (epoch, index)."""
    source, policy, scratch = dataset.source, dataset.policy, np.empty((112, 112, 3), np.uint8)
    assert policy is not None

    def decoding(places: list[tuple[int, int]]) -> None:
        for _, index in places:
            decode_into(scratch, source.read(index)[0], str)

    def originals(places: list[tuple[int, int]]) -> Any:
        return PairDataset(source, policy, dataset.seed, degrade_on="device").__getitems__(places)

    def plain_images(places: list[tuple[int, int]]) -> np.ndarray:
        rng = np.random.default_rng(places[0][1])
        return np.stack([plain_image(source.read(index)[0], rng.random() < 0.5) for _, index in places])

    def one_by_one(pair: Callable, stack: Callable, places: list[tuple[int, int]]) -> Any:
        params = draw(policy, uniforms(dataset.seed, *np.array(places).T))
        encoded = (source.read(index)[0] for _, index in places)
        both = [pair(image, view, policy) for image, view in zip(encoded, params.images(), strict=True)]
        return stack([view for views in both for view in views])

    contestants: Ways = {
        "pairs": dataset.__getitems__,
        "decoding alone": decoding,
        "originals for the device": originals,
        "plain images": plain_images,
        "plain pairs, OpenCV": partial(one_by_one, plain_pair, np.stack),
    }
    if with_pillow := pillow_pair():
        contestants["plain pairs, Pillow"] = partial(one_by_one, with_pillow, torch.stack)
    return contestants


def per_core(contestants: Ways, length: int, batch: int, rounds: int) -> dict[str, Any]:
    """Items a second of processor time, and ratios to the first contestant."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in tqdm(range(rounds + 1), unit="round", leave=False):
        places = [(turn, (turn * batch + row) % length) for row in range(batch)]
        for name, way in contestants.items():
            started = time.process_time()
            way(places)
            seconds[name].append((time.process_time() - started) / batch)
    times = {name: values[1:] for name, values in seconds.items()}  # the first round warms up
    first = next(iter(times))
    rates = {f"{name} a second": 1 / statistics.median(values) for name, values in times.items()}
    ratios = {
        f"{first} / {name}": statistics.median(b / a for a, b in zip(times[first], values, strict=True))
        for name, values in times.items()
        if name != first
    }
    return {"one core": rates, "ratios": ratios}


def over_workers(
    dataset: PairDataset, counts: Sequence[int], batch: int, batches: int, rounds: int
) -> dict[str, dict[str, float]]:
    """For each number of workers: pairs a second by the clock, how many times those of the first number of workers,
    and pairs a second of the workers' processor time."""
    datasets = {workers: dataset.for_workers(workers, batch) for workers in counts}
    speeds: dict[int, list[tuple[float, float]]] = {workers: [] for workers in counts}
    for _ in tqdm(range(rounds + 1), desc="loaders", unit="round", leave=False):
        for workers, its_own in datasets.items():
            speeds[workers].append(_load(its_own, batch, batches, workers))
    table = {}
    for workers, found in speeds.items():
        clock, processor = zip(*found[1:], strict=True)  # the first round touches the memory
        times = [one / other for one, (other, _) in zip(clock, speeds[counts[0]][1:], strict=True)]
        table[f"{workers} workers"] = {
            "pairs a second": statistics.median(clock),
            f"times those of {counts[0]}": statistics.median(times),
            "pairs a processor second": statistics.median(processor),
        }
    return table


def _load(dataset: PairDataset, batch: int, batches: int, workers: int) -> tuple[float, float]:
    """Pairs a second by the clock, once each worker has given a batch, and by the workers' processor time."""
    places = [(row // len(dataset), row % len(dataset)) for row in range(batch * (batches + workers))]
    loader = DataLoader(
        dataset, batch, sampler=places, num_workers=workers, collate_fn=collate, worker_init_fn=worker_init,
        multiprocessing_context=start_method(workers),
    )  # fmt: skip
    before, found = _children(), iter(loader)
    for _ in range(workers):
        next(found)
    started, pairs = time.perf_counter(), sum(len(one) for one in found)
    clock = time.perf_counter() - started
    return pairs / clock, len(places) / (_children() - before)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def plain_image(encoded: memoryview | bytes, mirrored: bool) -> np.ndarray:
    """One image as arcface_torch's data set gives it: decoded, mirrored, float32 (3, h, w) in [-1, 1]."""
    image = _decoded(np.frombuffer(encoded, np.uint8))
    return _tensor(image[:, ::-1] if mirrored else image)


def plain_pair(
    encoded: memoryview | bytes, view: ViewParams, policy: DegradationPolicy
) -> tuple[np.ndarray, np.ndarray]:
    """Both views, float32 (3, h, w) in [-1, 1]: the paper's steps as they read, one call after the other."""
    image = _decoded(np.frombuffer(encoded, np.uint8))
    high = _tensor(image[:, ::-1] if view.flip_high else image)
    side, small = image.shape[0], int(view.small_height)
    top, left, height, width = (int(number) for number in view.box)
    if policy.crop_keeps_place:
        kept = np.zeros_like(image)
        kept[top : top + height, left : left + width] = image[top : top + height, left : left + width]
        image = kept
    down, up = FILTERS[int(view.down)], FILTERS[int(view.up)]
    while policy.rescale_antialias and down not in ("nearest", "area") and len(image) >= 2 * small:
        image = cv2.resize(image, (len(image) // 2, len(image) // 2), interpolation=cv2.INTER_AREA)
    image = cv2.resize(image, (small, small), interpolation=FLAGS[down])
    if view.jpeg_quality:
        quality = (cv2.IMWRITE_JPEG_QUALITY, int(view.jpeg_quality))
        _, compressed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        image = _decoded(compressed)
    image = cv2.resize(image, (side, side), interpolation=FLAGS[up])
    if not policy.crop_keeps_place and (height, width) != (side, side):
        image = cv2.resize(image[top : top + height, left : left + width], (side, side))
    x: np.ndarray = image.astype(np.float32)
    for kind, factor in zip(view.order, view.factors, strict=True):
        if factor != 1:
            grey = x @ np.array((0.299, 0.587, 0.114), np.float32)
            towards = 0 if kind == BRIGHTNESS else grey.mean() if kind == CONTRAST else grey[:, :, None]
            x = np.clip(np.rint(factor * x + (1 - factor) * towards), 0, 255)
    if view.degrees:
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), view.degrees, 1.0)
        x = cv2.warpAffine(x, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return high, _tensor(x[:, ::-1] if view.flip_low else x)


def _tensor(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(((image.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1))


def _decoded(encoded: np.ndarray) -> np.ndarray:
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

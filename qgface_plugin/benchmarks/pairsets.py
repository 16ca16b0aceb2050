"""Pair sets: loading a .bin set of 12,000 images, and its 10-fold figures, beside a plain implementation of both.

The plain one keeps each image twice as float32 (as it is and mirrored), decoded one after the other, and judges every
pair at every threshold anew for every fold: what a direct translation of the protocol does. Each loads in a process of
its own, whose peak memory is the kernel's count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ..data.bin_files import read_bin, write_bin
from ..data.images import encode_jpeg
from ..data.procedural.face import draw_face
from ..evaluation.metrics.verification import THRESHOLDS, kfold_accuracy, pair_distances, roc, tar_at_far

FOLDS = 10
REPEATS = 3  # of what takes milliseconds; the fastest counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--bin, --images and --dim."""
    parser.add_argument("--bin", metavar="FILE", help="a pair set (default: drawn faces, made in a temporary folder)")
    parser.add_argument("--images", metavar="N", type=int, default=12000, help="of the drawn set (default: 12000)")
    parser.add_argument("--dim", metavar="D", type=int, default=512, help="size of a feature (default: 512)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and megabytes of both implementations, and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(arguments.bin) if arguments.bin else _drawn_set(Path(folder) / "drawn.bin", arguments.images)
        ours, plain = _in_a_process(_load, path), _in_a_process(_plain_load, path)
        same = read_bin(path).same
    features = _features(same, arguments.dim)
    (figures, cpu), accuracy = _timed(lambda: _figures(features, same))
    (plain_figures, plain_cpu), plain_accuracy = _timed(lambda: _plain_accuracy(features, same), repeats=1)
    if accuracy != plain_accuracy:
        raise AssertionError(f"accuracies differ: {accuracy!r} and {plain_accuracy!r}")
    return {
        "images": 2 * len(same),
        "load_seconds": ours["seconds"],
        "plain_load_seconds": plain["seconds"],
        "load_ratio": plain["seconds"] / ours["seconds"],
        "load_cpu_seconds": ours["cpu_seconds"],
        "plain_load_cpu_seconds": plain["cpu_seconds"],
        "peak_mb": ours["peak_mb"],
        "plain_peak_mb": plain["peak_mb"],
        "memory_ratio": plain["peak_mb"] / ours["peak_mb"],
        "figures_seconds": figures,
        "plain_figures_seconds": plain_figures,
        "figures_cpu_seconds": cpu,
        "plain_figures_cpu_seconds": plain_cpu,
        "figures_ratio": plain_figures / figures,
    }


def _drawn_set(path: Path, images: int) -> Path:
    """JPEGs of drawn faces with camera noise, each one different, about 6 kB as in the published sets."""
    faces = [draw_face(i, i).astype(np.int16) for i in range(64)]
    encoded = []
    for number in tqdm(range(images), desc="drawing a set", unit="image", leave=False):
        rng = np.random.default_rng(number)
        noisy = faces[number % len(faces)] + rng.integers(-6, 7, faces[0].shape, dtype=np.int16)
        encoded.append(encode_jpeg(noisy.clip(0, 255).astype(np.uint8), 90))
    pairs = images // 2
    write_bin(path, encoded[: 2 * pairs], [i % (2 * (pairs // 20 or 1)) < (pairs // 20 or 1) for i in range(pairs)])
    return path


def _in_a_process(load: Any, path: Path) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, load, path).result()


def _measured(load: Any, path: Path) -> dict[str, float]:
    start, start_cpu = time.perf_counter(), time.process_time()
    kept = load(path)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    # VmHWM and not getrusage: the latter starts a process with the peak of the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    del kept
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak / 1024}


def _load(path: Path) -> Any:
    return read_bin(path).decode()


def _plain_load(path: Path) -> Any:
    pairs = read_bin(path)
    both = np.empty((2, len(pairs.images), 3, 112, 112), dtype=np.float32)
    for number, encoded in enumerate(pairs.images):
        image = _decoded(np.frombuffer(encoded, np.uint8))
        both[0, number] = image.transpose(2, 0, 1)
        both[1, number] = image[:, ::-1].transpose(2, 0, 1)
    return both


def _features(same: np.ndarray, dim: int) -> np.ndarray:
    """Random features (2N, d) in which genuine pairs are nearer."""
    features = np.random.default_rng(0).standard_normal((2 * len(same), dim), dtype=np.float32)
    features[1::2][same] += features[0::2][same]
    return features


def _figures(features: np.ndarray, same: np.ndarray) -> float:
    distances = pair_distances(features)
    tar_at_far(roc(-distances, same), None, (1e-3, 1e-2, 1e-1))
    return kfold_accuracy(distances, same, FOLDS).mean


def _plain_accuracy(features: np.ndarray, same: np.ndarray) -> float:
    """Accuracy by loops over folds and thresholds; TAR at one FAR over ten times as many thresholds, as upstream."""
    unit = features / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    distances = np.sum(np.square(unit[0::2] - unit[1::2]), axis=1)
    accuracies = []
    for test in np.array_split(np.arange(len(same)), FOLDS):
        train = np.setdiff1d(np.arange(len(same)), test)
        rights = [np.mean((distances[train] < threshold) == same[train]) for threshold in THRESHOLDS]
        for threshold in THRESHOLDS:  # the ROC of the fold
            accepted = distances[test] < threshold
            np.sum(accepted & same[test]), np.sum(accepted & ~same[test])
        accuracies.append(np.mean((distances[test] < THRESHOLDS[np.argmax(rights)]) == same[test]))
        for threshold in np.arange(0, 4, 0.001):
            accepted = distances[train] < threshold
            np.sum(accepted & same[train]), np.sum(accepted & ~same[train])
    return float(np.mean(accuracies))


def _timed(work: Any, repeats: int = REPEATS) -> tuple[tuple[float, float], Any]:
    """The fastest of `repeats` runs, in seconds and in seconds of the processor, and what it gave."""
    times, cpu_times = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        given = work()
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - start_cpu)
    return (min(times), min(cpu_times)), given


def _decoded(encoded: np.ndarray) -> np.ndarray:
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

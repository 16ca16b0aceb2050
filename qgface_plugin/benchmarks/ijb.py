"""IJB-B 1:1 at full size from features, against a plain way, and against InsightFace's own tool where it is named.

A made-up set of IJB-B's size (227,630 images, 12,115 templates, 8,010,270 pairs; --scale for less) and made-up features
are written to a temporary folder, 1.1 GB at full size. Each way then runs in a process of its own, from features in
files to TAR@FAR and AUC, and reports seconds and the most memory that it held.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.metrics.verification import roc, tar_at_far
from ..evaluation.protocols.ijb.insightface_tool import AGREE, run_tool
from ..evaluation.protocols.ijb.metadata import IjbImages, read_images, read_pairs
from ..evaluation.protocols.ijb.synthetic import make_set
from ..evaluation.protocols.ijb.templates import DEFAULT_MODE, TemplatePlan
from ..evaluation.protocols.ijb.verification import FARS, PairRows, verify
from ..models.embeddings import Embeddings
from ..utils.errors import ConfigError

SUBSET = "IJBB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=float, default=1.0, help="of IJB-B's images and templates [%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="threads of each way [%(default)s]")
    parser.add_argument("--repeat", type=int, default=3, help="runs of our way, the quickest counts [%(default)s]")
    parser.add_argument("--ijb-tools", metavar="DIR", type=Path, help="folder of ijb_evals.py, or its checkout")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of each way, and how many times as long as ours the others take."""
    if arguments.threads < 1 or arguments.repeat < 1:
        raise ConfigError("--threads and --repeat must be at least 1")
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="ijb_benchmark_") as scratch:
        folder = Path(scratch)
        embeddings = make_set(folder, arguments.scale)
        np.save(folder / "original.npy", embeddings.original)
        np.save(folder / "mirrored.npy", embeddings.mirrored)
        del embeddings
        ours = _alone(_ours, folder, arguments.repeat)
        plain = _alone(_plain, folder, 1)
        results: dict[str, Any] = {"ours": ours, "plain": plain}
        results["plain / ours"] = plain["seconds"] / ours["seconds"]
        results["plain / ours, processor"] = plain["processor_seconds"] / ours["processor_seconds"]
        results["largest difference to plain"] = _difference(ours, plain["tar"], plain["auc"])
        if arguments.ijb_tools:
            tool = run_tool(arguments.ijb_tools, folder, SUBSET, _features(folder), progress=True).numbers
            theirs = tool["one_to_one"][DEFAULT_MODE.name]
            results["ijb_evals.py"] = {key: tool[key] for key in ("seconds", "processor_seconds", "peak_bytes")}
            results["ijb_evals.py / ours"] = tool["seconds"] / ours["seconds"]
            results["ijb_evals.py / ours, processor"] = tool["processor_seconds"] / ours["processor_seconds"]
            results["largest difference to ijb_evals.py"] = _difference(ours, theirs["tar"], theirs["auc"])
    results["agree to"] = AGREE
    return results


def _alone(way: Callable[[Path, int], dict[str, Any]], folder: Path, repeat: int) -> dict[str, Any]:
    """Run one way in a new process, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(way, folder, repeat).result()


def _features(folder: Path) -> Embeddings:
    sides = (np.load(folder / f"{side}.npy", mmap_mode="c") for side in ("original", "mirrored"))
    return Embeddings(*(np.asarray(side) for side in sides))


def _figures(seconds: float, processor: float, tar: list[float], auc: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "processor_seconds": processor, "peak_bytes": peak, "tar": tar, "auc": auc}


def _ours(folder: Path, repeat: int) -> dict[str, Any]:
    started = time.perf_counter()
    images, pairs = read_images(folder, SUBSET), read_pairs(folder, SUBSET)
    reading = time.perf_counter() - started
    runs = []
    for _ in range(repeat):
        clock, processor = time.perf_counter(), time.process_time()
        templates = TemplatePlan(images).templates(_features(folder))
        result = verify(templates, PairRows.of(pairs, templates), DEFAULT_MODE)
        runs.append((time.perf_counter() - clock, time.process_time() - processor))
    figures = _figures(*min(runs), [point.nearest for point in result.tar_at_far], result.auc)
    return {**figures, "reading_the_text_files_seconds": reading, "first_run_seconds": runs[0][0]}


def _plain(folder: Path, repeat: int) -> dict[str, Any]:
    images, pairs = read_images(folder, SUBSET), read_pairs(folder, SUBSET)
    clock, processor = time.perf_counter(), time.process_time()
    ids, features = plain_templates(images, np.load(folder / "original.npy") + np.load(folder / "mirrored.npy"))
    scores = plain_scores(ids, features, pairs.first, pairs.second)
    curve = roc(scores, pairs.same)
    tar = [point.nearest for point in tar_at_far(curve, None, FARS)]
    return _figures(time.perf_counter() - clock, time.process_time() - processor, tar, curve.auc)


def plain_templates(images: IjbImages, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One template after the other, searching all images for its own: the protocol's text as it reads."""
    weighed = features * images.detector[:, None]
    ids = np.unique(images.templates)
    templates = np.empty((len(ids), features.shape[1]))
    for row, template in enumerate(ids):
        own = np.flatnonzero(images.templates == template)
        medias = images.medias[own]
        means = [weighed[own[medias == media]].mean(axis=0) for media in np.unique(medias)]
        templates[row] = np.sum(means, axis=0)
    return ids, templates / np.linalg.norm(templates, axis=1, keepdims=True)


def plain_scores(ids: np.ndarray, features: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rows of both templates of each pair, multiplied and added up, some thousands of pairs at a time."""
    scores = []
    for start in range(0, len(first), 10_000):
        left = features[np.searchsorted(ids, first[start : start + 10_000])]
        right = features[np.searchsorted(ids, second[start : start + 10_000])]
        scores.append((left * right).sum(axis=1))
    return np.concatenate(scores)


def _difference(ours: dict[str, Any], tar: list[float], auc: float) -> float:
    return float(max(abs(ours["auc"] - auc), *(abs(a - b) for a, b in zip(ours["tar"], tar, strict=True))))

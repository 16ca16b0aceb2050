"""Tables of results on pair sets: for people in percent, and as what is saved in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...utils.command_line import text_table
from ..metrics.thresholds import Threshold
from ..norm_order import NormOrder
from .pair_sets import PairSetResult


def verification_table(results: Sequence[PairSetResult]) -> str:
    """One line per set: accuracy and its deviation over the folds, threshold, TAR at each FAR (nearest / strict)."""
    fars = [point.far for point in results[0].verification.tar_at_far]
    head = ["set", "pairs", "accuracy", "+-", "no flip", "threshold", *(f"TAR@FAR={far:g}" for far in fars), "AUC"]
    rows = []
    for result in results:
        found = result.verification
        tars = [f"{100 * point.nearest:.2f} / {100 * point.strict:.2f}" for point in found.tar_at_far]
        numbers = [f"{100 * value:.3f}" for value in (found.accuracy, found.std, result.single_accuracy)]
        rows.append([found.name, f"{found.pairs}", *numbers, f"{found.threshold:.3f}", *tars, f"{found.auc:.5f}"])
    if len(results) > 1:
        rows.append(["average", "", f"{100 * average(results):.3f}", *[""] * (len(head) - 3)])
    return text_table(head, rows)


def threshold_table(results: Sequence[PairSetResult]) -> str:
    """One line per set and FAR: the threshold, what is behind it, and the TAR with its interval, with flip fusion and
    for the images as they are. Below, how the intervals are made."""
    head = ["set", "FAR", "threshold", "impostors", "TAR", "95 %", "no flip: threshold", "TAR", "95 %", ""]
    rows: list[list[str]] = []
    said: dict[str, list[str]] = {}
    for result in results:
        name = result.verification.name
        said.setdefault(result.thresholds.interval, []).append(name)
        for fused, alone in zip(result.thresholds.points, result.single_thresholds.points, strict=True):
            behind = f"{fused.false_accepts:,} of {fused.impostors:,}"
            row = [name, f"{fused.far:g}", *_threshold_cells(fused), *_threshold_cells(alone), fused.reason]
            rows.append([*row[:3], behind, *row[3:]])
    said_first = "a pair is accepted when its cosine is at least the threshold; with flip fusion, and (no flip) without"
    lines = [text_table(head, rows), said_first]
    return "\n".join([*lines, *(f"intervals of {', '.join(names)}: {text}" for text, names in said.items())])


def _threshold_cells(point: Threshold) -> list[str]:
    if point.threshold is None or point.tar is None or point.low is None or point.high is None:
        return ["none", "", ""]
    return [f"{point.threshold:.4f}", f"{100 * point.tar:.2f}", f"{100 * point.low:.2f}-{100 * point.high:.2f}"]


def norm_table(results: Sequence[PairSetResult]) -> str:
    """One line per set: the norms of raw features, and whether they fall when the images are degraded."""
    head = ["set", "XNorm", "norm", "+-", "5%", "50%", "95%", "degraded", "norm order", "AUC", ""]
    rows = []
    for result in results:
        norms, order = result.norms, result.norm_order
        numbers = (result.verification.xnorm, norms.mean, norms.std, norms.p5, norms.median, norms.p95)
        shown = [f"{value:.3f}" for value in numbers]
        last = ["", "", "", "not measured"]
        if order is not None:
            last = [f"{order.degraded.mean:.3f}", f"{order.share:.3f}", f"{order.auc:.3f}", order.verdict]
        rows.append([result.verification.name, *shown, *last])
    return text_table(head, rows)


def average(results: Sequence[PairSetResult]) -> float:
    """Mean accuracy over the sets."""
    return float(np.mean([result.verification.accuracy for result in results]))


def as_results(results: Sequence[PairSetResult]) -> dict[str, Any]:
    """What is saved: `sets` by name, and `average`."""
    return {
        "sets": {result.verification.name: result.as_dict() for result in results},
        "average": {"accuracy": average(results), "sets": len(results)},
    }


def warnings_of(results: Sequence[PairSetResult]) -> list[str]:
    """What a reader of the numbers has to know, one sentence each."""
    warnings = []
    for result in results:
        name, order = result.verification.name, result.norm_order
        if result.color_order is not None and result.color_order.warning:
            warnings.append(f"{name}: {result.color_order.warning}")
        if order is not None and order.verdict != "follows quality":
            warnings.append(f"{name}: {_why_no_score(order)}")
    return warnings


def _why_no_score(order: NormOrder) -> str:
    seen = f"{order.share:.0%} of {order.images} images have a larger norm than their degraded copy"
    if order.verdict == "weak":
        return f"the norm is a weak quality score: {seen}, but sharp and degraded overlap (AUC {order.auc:.2f})"
    verb = "is " if order.verdict == "upside down" else ""
    return f"the norm {verb}{order.verdict} as a quality score: {seen}, where chance is 50%"

"""Figures of how runs went: Fig. 3b of the paper (positives and negatives), Fig. 5 (SCface), curves of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluation.report.canvas import look, new_figure, save
from ...evaluation.report.plots import similarity_panels
from ...evaluation.report.results import read_results
from ...utils.errors import ConfigError, DataError
from ..run_metrics import RunMetrics, smooth, split_name

PANELS = {
    "loss": "loss",
    "classification": "classification term",
    "contrastive": "contrastive term",
    "lq_share_pair": "share of pairs below b",
    "norm_order": "norm order (0.5: chance)",
}


def draw_queues(folder: Path, runs: Sequence[RunMetrics], name: str = "fig3b_queues") -> list[Path]:
    """Left: mean cosine of a pair's views and to the queue's negatives. Right: their difference, the paper's Fig. 3b.

    Args:
        folder: where the files go.
        runs: one curve each.
        name: of the files.

    Returns:
        The PDF and the PNG.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: a run without these terms (trained without a queue, or by an earlier version), or files that cannot
            be written.
    """
    for run in runs:
        for term in ("positive_cosine", "negative_cosine"):
            if term not in run.terms:
                raise DataError(f"{run.name}: its metrics.jsonl has no {term}; train it with a queue")
    figure = new_figure(7.2, 2.9)
    both, difference = figure.subplots(1, 2)
    for number, run in enumerate(runs):
        steps, positive = run.terms["positive_cosine"]
        negative_steps, negative = run.terms["negative_cosine"]
        shared = {step: i for i, step in enumerate(negative_steps)}
        rows = [(i, shared[step]) for i, step in enumerate(steps) if step in shared]
        ours, theirs = positive[[i for i, _ in rows]], negative[[j for _, j in rows]]
        at, colour = steps[[i for i, _ in rows]], look(number)["color"]
        both.plot(at, smooth(ours), color=colour, ls="-")
        both.plot(at, smooth(theirs), color=colour, ls="--")
        difference.plot(at, smooth(ours - theirs), label=run.name, **look(number))
    both.set_title("pairs (solid) and negatives (dashed)", fontsize=9)
    both.set_ylabel("mean cosine")
    difference.set_title("positive minus negative", fontsize=9)
    difference.legend(fontsize=8, frameon=False)
    for panel in (both, difference):
        _tidy(panel)
    return save(figure, folder, name)


def draw_training(folder: Path, runs: Sequence[RunMetrics], name: str = "training") -> list[Path]:
    """One panel per number over the steps (running means), and the accuracies of the verification sets.

    Args:
        folder: where the files go.
        runs: one curve each.
        name: of the files.

    Returns:
        The PDF and the PNG.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: the files cannot be written.
    """
    sets = sorted({name for run in runs for name in run.accuracy})
    panels = {key: title for key, title in PANELS.items() if any(key in run.terms for run in runs)}
    columns = min(3, len(panels) + len(sets))
    rows = -(-(len(panels) + len(sets)) // columns)
    figure = new_figure(2.6 * columns + 0.6, 2.3 * rows + 0.4)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, (key, title) in zip(axes, panels.items(), strict=False):
        for number, run in enumerate(runs):
            if key in run.terms:
                steps, values = run.terms[key]
                panel.plot(steps, smooth(values), lw=1.2, **look(number))
        panel.set_title(title, fontsize=9)
        if key == "norm_order":
            panel.axhline(0.5, color="0.6", lw=0.8)
    for panel, one in zip(axes[len(panels) :], sets, strict=False):
        for number, run in enumerate(runs):
            if one in run.accuracy:
                steps, values = run.accuracy[one]
                panel.plot(steps, 100 * values, marker="o", ms=3, lw=1.2, **look(number))
        panel.set_title(f"{one}: accuracy (%)", fontsize=9)
    for panel in axes[: len(panels) + len(sets)]:
        _tidy(panel)
    for panel in axes[len(panels) + len(sets) :]:
        panel.set_axis_off()
    handles = [axes[0].plot([], [], label=run.name, **look(number))[0] for number, run in enumerate(runs)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(runs)), frameon=False, fontsize=8)
    return save(figure, folder, name)


def _tidy(panel: Any) -> None:
    panel.set_xlabel("step", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def draw_scface(folder: Path, runs: Sequence[str], name: str = "fig5_similarity") -> list[Path]:
    """Similarities of saved SCface results at each distance, the paper's Fig. 5, and what a run gains over another.

    Args:
        folder: where the files go.
        runs: one or two folders with results/scface.json, or NAME=FOLDER; the gain is of the first one.
        name: of the files.

    Returns:
        The PDF and the PNG.

    Raises:
        ConfigError: more than two runs, or matplotlib is not installed.
        DataError: a run that was not evaluated on SCface, or files that cannot be written.
    """
    if not 1 <= len(runs) <= 2:
        raise ConfigError(f"{len(runs)} runs are given: name the run, and the one that it is compared with")
    models = {}
    for given in runs:
        label, run = split_name(given)
        results = read_results(run)
        if "scface" not in results:
            raise DataError(f"{run}: no results/scface.json is in it; run `qgface eval-scface` on its model first")
        label = label or Path(run).resolve().name
        models[label if label not in models else f"{label} ({run})"] = results["scface"].results
    figure = new_figure(3.4 * 3, 3.4)
    similarity_panels(figure, models)
    return save(figure, folder, name)

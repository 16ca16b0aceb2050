"""Plots of evaluations as PNG files: ROC curves, and the similarities of probes and gallery (the paper's Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.verification import Roc
from .canvas import STYLES, look, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_FAR = 1e-6
KINDS = {"same": ("same person", "#1b6ca8"), "other": ("others", "#c8553d")}  # of similarities: label and colour


def plot_roc(curves: Mapping[str, Roc], path: Path, title: str) -> None:
    """Draw ROC curves, FAR on a logarithmic axis from 1e-6 (or the lowest FAR that the pairs can show) to 1.

    Args:
        curves: label -> all points, or the corners, of a curve.
        path: the PNG.
        title: stands above the curves.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: the file cannot be written.
    """
    figure = new_figure(7.5, 5.5)
    axes = figure.add_subplot()
    lowest_far, lowest_tar = 1.0, 1.0
    for number, (label, curve) in enumerate(curves.items()):
        # A curve of steps: TAR holds until the next impostor pair is accepted. Below the first one FAR is 0.
        floor = max(LOWEST_FAR, 1 / int(curve.false_accepts[-1]))
        far, tar = np.maximum(curve.far, floor), curve.tar
        axes.plot(far, tar, lw=1.4, label=label, ls=STYLES[number % len(STYLES)], drawstyle="steps-post")
        lowest_far = min(lowest_far, floor)
        lowest_tar = min(lowest_tar, float(tar[np.searchsorted(curve.far, floor, side="right") - 1]))
    axes.set(
        xscale="log",
        xlim=(lowest_far, 1),
        ylim=(max(0.0, np.floor(lowest_tar * 20 - 0.5) / 20), 1.005),
        xlabel="FAR (impostor pairs accepted)",
        ylabel="TAR (genuine pairs accepted)",
        title=title,
    )
    axes.grid(which="major", alpha=0.5)
    axes.grid(which="minor", alpha=0.15)
    axes.legend(loc="lower right", fontsize="small")
    save_png(figure, path, 130)


def draw_discard(figure: Figure, sources: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Error-versus-discard curves on an empty figure: one panel per FMR, one curve per quality.

    Args:
        figure: to draw on.
        sources: quality -> {"curves": as `metrics.discard.DiscardCurve.as_dict` has them}, the same FMRs in each.
        title: stands above the panels.
    """
    count = len(next(iter(sources.values()))["curves"])
    panels = figure.subplots(1, count, squeeze=False)[0]
    for at, panel in enumerate(panels):
        discard_panel(panel, sources, at)
    panels[0].set_ylabel("FNMR of the others (%)")
    figure.suptitle(title, fontsize=11)
    handles, labels = next((found for panel in panels if (found := panel.get_legend_handles_labels())[0]), ([], []))
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)


def discard_panel(panel: Axes, sources: Mapping[str, Mapping[str, Any]], at: int) -> None:
    """The curves at the `at`-th FMR; dotted, what a perfect quality would do, dashed, discarding at random.

    Steps, as nothing can be discarded between them. Where the pairs show no such FMR, the panel says so.
    """
    curve = next(iter(sources.values()))["curves"][at]
    panel.set_title(f"FMR {curve['fmr']:g}", fontsize=10)
    panel.set_xlabel("share of the genuine pairs discarded (%)")
    panel.spines[["top", "right"]].set_visible(False)
    if curve["fnmr"] is None:
        panel.text(0.5, 0.5, curve["reason"], transform=panel.transAxes, ha="center", va="center", wrap=True)
        panel.set(xticks=[], yticks=[])
        return
    shares = np.linspace(0, 0.95, 96)
    best = np.maximum(curve["fnmr"] - shares, 0) / (1 - shares)
    for number, (source, found) in enumerate(sources.items()):
        drawn = found["curves"][at]
        errors, discarded = 100 * np.array(drawn["errors"], float), 100 * np.array(drawn["discarded"], float)
        panel.step(discarded, errors, where="post", lw=1.5, label=source, **look(number))
    panel.plot(100 * shares, 100 * best, color="0.5", lw=1, ls=":", label="a perfect one")
    panel.axhline(100 * curve["fnmr"], color="0.5", lw=1, ls="--", label="at random")
    panel.set(xlim=(0, 95), ylim=(0, None))
    panel.axvspan(0, 100 * curve["limit"], color="0.5", alpha=0.07, lw=0)


def draw_similarities(path: str | Path, models: Mapping[str, Mapping[str, Any]]) -> Path:
    """Draw one panel per distance: densities of both kinds of similarity, a line at each mean.

    The title of a panel is its distance, with what the first model's rank-1 is above the second one's, and the rates.

    Args:
        path: the PNG.
        models: name -> what `protocols.scface.score_scface` returns; the first one is filled, a second one dashed.

    Returns:
        The path.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: the file cannot be written.
    """
    figure = new_figure(4.6 * len(next(iter(models.values()))["similarity"]), 3.8)
    similarity_panels(figure, models)
    return save_png(figure, Path(path), 120)


def similarity_panels(figure: Figure, models: Mapping[str, Mapping[str, Any]]) -> None:
    """The panels and the legend of `draw_similarities` on an empty figure."""
    first = next(iter(models.values()))
    distances, edges = list(first["similarity"]), first["histogram_edges"]
    panels = figure.subplots(1, len(distances), sharex=True, sharey=True, squeeze=False)[0]
    for panel, distance in zip(panels, distances, strict=True):
        lines = [distance]
        for order, (name, results) in enumerate(models.items()):
            _draw(panel, name, results["similarity"][distance], edges, filled=order == 0)
            rate = results["rank1"][distance]
            lines.append(f"{name}: {'no probe' if rate is None else f'rank-1 {100 * rate:.2f} %'}")
        rates = [results["rank1"][distance] for results in models.values()]
        if len(rates) == 2 and None not in rates:
            lines[0] += f": {100 * (rates[0] - rates[1]):+.2f} %"
        panel.set_title("\n".join(lines), fontsize=10)
        panel.set_xlabel("cosine similarity of probe and gallery")
        panel.set_xlim(*_range(models, edges))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


def _draw(panel: Axes, name: str, similarity: Mapping[str, Any], edges: list[float], filled: bool) -> None:
    width = edges[1] - edges[0]
    for kind, (label, colour) in KINDS.items():
        part = similarity[kind]
        density = [count / max(part["count"], 1) / width for count in part["histogram"]]
        style = {"fill": True, "alpha": 0.35} if filled else {"fill": False, "linestyle": "--", "linewidth": 1.3}
        panel.stairs(density, edges, color=colour, label=f"{name}, {label}", **style)
        if part["mean"] is not None:
            panel.axvline(part["mean"], color=colour, linewidth=1.2, linestyle="-" if filled else "--")


def _range(models: Mapping[str, Mapping[str, Any]], edges: list[float]) -> tuple[float, float]:
    """From the first to the last bin that any model has something in, so that the curves fill the panel."""
    bins = [
        number
        for results in models.values()
        for similarity in results["similarity"].values()
        for kind in KINDS
        for number, count in enumerate(similarity[kind]["histogram"])
        if count
    ]
    return edges[min(bins)], edges[max(bins) + 1]

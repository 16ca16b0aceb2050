"""Plots of evaluations as PNG files: ROC curves, and the similarities of probes and gallery (the paper's Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.verification import Roc
from .canvas import STYLES, look, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_FAR = 1e-6
# of similarities: label and colour; results of earlier versions have no "nearest", and "other" stands in its place
KINDS = {
    "same": ("same person", "#1b6ca8"),
    "nearest": ("most similar other", "#c8553d"),
    "other": ("others", "#c8553d"),
}


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
    """Draw one panel per distance: similarities to the own gallery image and to the most similar other, a line at
    each mean.

    The title of a panel is its distance, with the gain that the paper quotes there: how much larger the first model's
    lead is than the second one's, the lead being mean similarity to the own image minus mean similarity to the most
    similar other. Below it, lead and rank-1 of each model. Results of versions that kept no lead have all others in the
    place of the most similar one.

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
    kept = all("nearest" in part for results in models.values() for part in results["similarity"].values())
    kinds = ("same", "nearest" if kept else "other")
    panels = figure.subplots(1, len(distances), sharex=True, sharey=True, squeeze=False)[0]
    for panel, distance in zip(panels, distances, strict=True):
        lines = [distance + _gain([results["similarity"][distance].get("lead") for results in models.values()])]
        for order, (name, results) in enumerate(models.items()):
            _draw(panel, name, results["similarity"][distance], edges, kinds, filled=order == 0)
            rate, lead = results["rank1"][distance], results["similarity"][distance].get("lead")
            ahead = "" if lead is None else f"lead {lead:.3f}, "
            lines.append(f"{name}: {'no probe' if rate is None else f'{ahead}rank-1 {100 * rate:.2f} %'}")
        panel.set_title("\n".join(lines), fontsize=10)
        panel.set_xlabel("cosine similarity of probe and gallery")
        panel.set_xlim(*_range(models, edges, kinds))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


def _gain(leads: Sequence[float | None]) -> str:
    """What the first lead is above the second: in percent of it, or as it is where the second is none to speak of."""
    if len(leads) != 2 or leads[0] is None or leads[1] is None:
        return ""
    if leads[1] <= 0:
        return f": lead {leads[0] - leads[1]:+.3f}"
    return f": lead {100 * (leads[0] / leads[1] - 1):+.1f} %"


def _draw(
    panel: Axes, name: str, similarity: Mapping[str, Any], edges: list[float], kinds: Sequence[str], filled: bool
) -> None:
    width = edges[1] - edges[0]
    for kind in kinds:
        part, (label, colour) = similarity[kind], KINDS[kind]
        density = [count / max(part["count"], 1) / width for count in part["histogram"]]
        style = {"fill": True, "alpha": 0.35} if filled else {"fill": False, "linestyle": "--", "linewidth": 1.3}
        panel.stairs(density, edges, color=colour, label=f"{name}, {label}", **style)
        if part["mean"] is not None:
            panel.axvline(part["mean"], color=colour, linewidth=1.2, linestyle="-" if filled else "--")


def _range(models: Mapping[str, Mapping[str, Any]], edges: list[float], kinds: Sequence[str]) -> tuple[float, float]:
    """From the first to the last bin that any model has something in, so that the curves fill the panel."""
    bins = [
        number
        for results in models.values()
        for similarity in results["similarity"].values()
        for kind in kinds
        for number, count in enumerate(similarity[kind]["histogram"])
        if count
    ]
    return edges[min(bins)], edges[max(bins) + 1]

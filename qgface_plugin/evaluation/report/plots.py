"""Curves as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import ConfigError, DataError
from ..metrics.verification import Roc

LOWEST_FAR = 1e-6
STYLES = ("-", "--", "-.", ":")


def plot_roc(curves: Mapping[str, Roc], path: Path, title: str) -> None:
    """Draw ROC curves, FAR on a logarithmic axis from 1e-6 (or the lowest FAR that the pairs can show) to 1.

    curves: label -> all points, or the corners, of a curve. Raises ConfigError where matplotlib is not installed.
    """
    figure_class, canvas_class = _matplotlib()
    figure = figure_class(figsize=(7.5, 5.5), dpi=130, layout="constrained")
    canvas_class(figure)
    axes = figure.add_subplot()
    lowest_far, lowest_tar = 1.0, 1.0
    for place, (label, curve) in enumerate(curves.items()):
        # A curve of steps: TAR holds until the next impostor pair is accepted. Below the first one FAR is 0.
        floor = max(LOWEST_FAR, 1 / int(curve.false_accepts[-1]))
        far, tar = np.maximum(curve.far, floor), curve.tar
        axes.plot(far, tar, lw=1.4, label=label, ls=STYLES[place % len(STYLES)], drawstyle="steps-post")
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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _matplotlib() -> tuple[type, type]:
    """Figure and a canvas that needs no display, without pyplot's global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "drawing a curve needs matplotlib, which is not installed: pip install 'qgface-plugin[eval]'"
        ) from error
    return Figure, FigureCanvasAgg


# ---
# The paper's Fig. 5: how similar probes are to their own gallery image and to those of others, at each distance.


COLOURS = {"same": "#1b6ca8", "other": "#c8553d"}
LABELS = {"same": "same person", "other": "others"}


def draw_similarities(path: str | Path, models: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a PNG with a panel a distance: densities of both kinds of similarity, a line at each mean.

    models: name -> what `protocols.scface.score_scface` returns; the first one is filled, a second one dashed.
    The title of a panel is its distance, with what the first one's rank-1 is above the second one's, and the rates.
    Raises ConfigError when matplotlib is not installed, DataError when the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a figure needs matplotlib: pip install 'qgface-plugin[eval]'") from error
    figure = Figure(figsize=(4.6 * len(next(iter(models.values()))["similarity"]), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    similarity_panels(figure, models)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise DataError(f"{path}: the figure cannot be written ({error.strerror})") from error
    return path


def similarity_panels(figure: Any, models: Mapping[str, Mapping[str, Any]]) -> None:
    """The panels and the legend of `draw_similarities` on an empty matplotlib figure."""
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


def _draw(panel: Any, name: str, similarity: Mapping[str, Any], edges: list[float], filled: bool) -> None:
    width = edges[1] - edges[0]
    for kind, colour in COLOURS.items():
        part = similarity[kind]
        density = [count / max(part["count"], 1) / width for count in part["histogram"]]
        style = {"fill": True, "alpha": 0.35} if filled else {"fill": False, "linestyle": "--", "linewidth": 1.3}
        panel.stairs(density, edges, color=colour, label=f"{name}, {LABELS[kind]}", **style)
        if part["mean"] is not None:
            panel.axvline(part["mean"], color=colour, linewidth=1.2, linestyle="-" if filled else "--")


def _range(models: Mapping[str, Mapping[str, Any]], edges: list[float]) -> tuple[float, float]:
    """From the first to the last bin that any model has something in, so that the curves fill the panel."""
    bins = [
        place
        for results in models.values()
        for similarity in results["similarity"].values()
        for kind in COLOURS
        for place, count in enumerate(similarity[kind]["histogram"])
        if count
    ]
    return edges[min(bins)], edges[max(bins) + 1]

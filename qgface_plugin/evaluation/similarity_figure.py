"""The paper's Fig. 5: how similar probes are to their own gallery image and to those of others, at each distance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..utils.errors import ConfigError, DataError

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

"""Figures of a page, each small enough for a phone: SVG as data URIs, from what results keep of their curves."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .canvas import COLOURS, look, new_figure
from .plots import KINDS, discard_panel

WIDTH, HEIGHT = 4.4, 3.3  # inches; pages show it at most 440 pixels wide


def roc_figure(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """ROC curves in one panel, FAR on a logarithmic axis.

    Args:
        curves: label -> {"far", "tar"} as `metrics.saved_curves` keeps them.

    Returns:
        A data URI.
    """
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    lowest, floor = 1.0, 1.0
    for number, (label, curve) in enumerate(curves.items()):
        far, tar = np.array(curve["far"], dtype=float), np.array(curve["tar"], dtype=float)
        least = far[far > 0].min() if (far > 0).any() else 1.0
        axes.plot(np.maximum(far, least), tar, lw=1.5, label=label, drawstyle="steps-post", **look(number))
        lowest, floor = min(lowest, least), min(floor, float(tar[far == 0].max(initial=0.0)) or 1.0)
    axes.set(xscale="log", xlim=(lowest, 1), ylim=(max(0.0, floor - 0.05), 1.005), xlabel="FAR", ylabel="TAR")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small", frameon=False)
    return _uri(figure)


def histogram_figure(
    edges: Sequence[float], same: Sequence[int], other: Sequence[int], thresholds: Mapping[str, float] | None = None
) -> str:
    """How many pairs of each kind have which cosine, as densities; a line at each threshold.

    Args:
        edges: of the bins.
        same, other: counts.
        thresholds: label -> cosine.

    Returns:
        A data URI.
    """
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    width = edges[1] - edges[0]
    used = []
    for (label, colour), counts in zip((KINDS["same"], KINDS["other"]), (same, other), strict=True):
        density = [count / max(sum(counts), 1) / width for count in counts]
        axes.stairs(density, edges, color=colour, fill=True, alpha=0.35)
        axes.stairs(density, edges, color=colour, label=f"{label} ({sum(counts):,})")
        used += [at for at, count in enumerate(counts) if count]
    for number, (label, cosine) in enumerate((thresholds or {}).items()):
        axes.axvline(cosine, color="0.2", lw=1, ls=("--", ":", "-.")[number % 3], label=label)
    if used:
        axes.set_xlim(edges[min(used)], edges[max(used) + 1])
    axes.set(xlabel="cosine similarity", ylabel="density")
    figure.legend(loc="outside upper center", ncols=2, fontsize="small", frameon=False)
    return _uri(figure)


def discard_figure(sources: Mapping[str, Mapping[str, Any]], at: int) -> str:
    """Error-versus-discard curves at the `at`-th FMR, with their legend.

    Args:
        sources: as `plots.draw_discard` takes them.
        at: number of the FMR.

    Returns:
        A data URI.
    """
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    discard_panel(axes, sources, at)
    axes.set_ylabel("FNMR of the others (%)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", fontsize="small", frameon=False)
    return _uri(figure)


def cmc_figure(curves: Mapping[str, Sequence[float]]) -> str:
    """Cumulative match characteristics: label -> rank-1, rank-2, ... Returns a data URI."""
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    for number, (label, rates) in enumerate(curves.items()):
        axes.plot(np.arange(1, len(rates) + 1), 100 * np.array(rates), marker=".", label=label, color=COLOURS[number])
    axes.set(xlabel="rank", ylabel="found (%)", xticks=[1, *range(5, 1 + max(map(len, curves.values())), 5)])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small", frameon=False)
    return _uri(figure)


def image_uri(data: bytes, kind: str) -> str:
    """A data URI of an image's bytes; `kind` such as "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _uri(figure: Any) -> str:
    import matplotlib

    out = io.BytesIO()
    # The salt makes equal figures equal bytes; text stays text, so that it is sharp and small.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "qgface", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return image_uri(out.getvalue(), "svg+xml")

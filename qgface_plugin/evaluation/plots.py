"""Curves as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..utils.errors import ConfigError
from .metrics import Roc

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

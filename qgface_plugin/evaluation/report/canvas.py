"""Figures as vector PDF for print and as PNG for looking at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind eyes tell apart; line styles tell them apart in black and white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches; without pyplot's global state. Raises ConfigError where matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a figure needs matplotlib: pip install 'qgface-plugin[eval]'") from error
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def look(place: int) -> dict[str, str]:
    """Colour and line style of the curve at `place`."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": STYLES[place // len(COLOURS) % len(STYLES)]}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write name.pdf and name.png (200 dots an inch). Raises DataError when they cannot be written."""
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], metadata={"CreationDate": None})
        figure.savefig(paths[1], dpi=200)
    except OSError as error:
        raise DataError(f"{folder / name}: the figure cannot be written ({error.strerror})") from error
    return paths

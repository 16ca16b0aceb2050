"""Canvas of all figures: vector PDF for print, PNG for looking at, without a display or pyplot's global state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...utils.errors import ConfigError, DataError
from ...utils.files import atomic_path, shown
from ...utils.outputs import PDF, PNG, check_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind eyes tell apart; line styles tell them apart in black and white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a figure needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def look(number: int) -> dict[str, Any]:
    """Colour and line style of a figure's curve, by its number from 0 on."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS) % len(STYLES)]}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write name.pdf and name.png (200 dots per inch) and return both paths.

    Raises:
        DataError: they cannot be written.
        ConfigError: there is something else under such a name.
    """
    import matplotlib

    path = folder / f"{name}.pdf"
    check_output(path, PDF)
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: journals refuse Type 3
        _write(figure, path, format="pdf", metadata={"CreationDate": None})
    return [path, save_png(figure, folder / f"{name}.png", 200)]


def save_png(figure: Figure, path: Path, dots: int) -> Path:
    """Write a PNG of `dots` per inch and return its path.

    Raises:
        DataError: it cannot be written.
        ConfigError: there is something else under that name.
    """
    try:
        check_output(path, PNG)
    except OSError as error:
        raise DataError(f"{path}: the figure cannot be written ({error.strerror})") from error
    _write(figure, path, format="png", dpi=dots)
    return path


def _write(figure: Figure, path: Path, **options: Any) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if (label := shown(text.get_text())) != text.get_text():  # the name of a file that is no UTF-8
            text.set_text(label)
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, **options)
    except OSError as error:
        raise DataError(f"{path}: the figure cannot be written ({error.strerror})") from error

"""Picture of a batch: every pair of views with its quality, framed by what its gates do with it."""

from __future__ import annotations

import cv2
import numpy as np
import torch

HIGH, LOW = (
    (0, 158, 115),
    (213, 94, 0),
)  # RGB green above the threshold, orange below; no colour-blind eye mixes them
PAPER, INK = (255, 255, 255), (40, 40, 40)
FRAME, GAP, MARGIN = 4, 6, 10  # pixels
STRIP = 18  # height of a line of text in a cell
LINE = 24  # height of a line of the legend
FONT, SCALE, LEGEND_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 0.45


def pair_grid(
    high: np.ndarray | torch.Tensor,
    low: np.ndarray | torch.Tensor,
    u_high: np.ndarray | torch.Tensor,
    u_low: np.ndarray | torch.Tensor,
    b: float,
    columns: int = 8,
    rows: int = 4,
    contrasted: bool = True,
) -> np.ndarray:
    """Draw the first `columns * rows` pairs, the original view above its degraded view.

    A view's frame is green when it takes part in the classification (u > b), orange when not; the pair's frame and
    title are orange when the pair takes part in the contrast (min u <= b), green when not (eqs. 3 and 4, exact gates).

    Args:
        high, low: uint8 (N, 3, height, width) RGB, N at least 1: the original and the degraded views.
        u_high, u_low: (N,), quality on the threshold's scale, in [0, 1].
        b: the threshold.
        columns, rows: pairs beside and above each other at most.
        contrasted: the run contrasts pairs; False (no queue): their colours tell what is below b, and no word of it.

    Returns:
        uint8 (rows of pixels, columns of pixels, 3) RGB.

    Raises:
        ValueError: shapes that do not belong together.

    Example:
        >>> views = np.zeros((2, 3, 112, 112), np.uint8)
        >>> picture = pair_grid(views, views, [0.9, 0.8], [0.6, 0.1], b=0.2)
        >>> picture.dtype, picture.ndim
        (dtype('uint8'), 3)
    """
    high, low, u_high, u_low = (np.asarray(torch.as_tensor(x).detach().cpu()) for x in (high, low, u_high, u_low))
    n = len(high)
    if not n or high.shape != low.shape or high.shape[1:2] != (3,) or u_high.shape != (n,) or u_low.shape != (n,):
        raise ValueError(
            f"views {high.shape} and {low.shape} with u {u_high.shape} and {u_low.shape}: they must be (N, 3, h, w) "
            "twice and (N,) twice, N at least 1"
        )
    shown = min(n, columns * rows)
    # compared as arrays, in u's own precision, as the gates do
    part_high, part_low, below = u_high > b, u_low > b, np.minimum(u_high, u_low) <= b
    cells = [
        _cell(
            _view(high[i].transpose(1, 2, 0), f"original u {u_high[i]:.2f}", part_high[i]),
            _view(low[i].transpose(1, 2, 0), f"degraded u {u_low[i]:.2f}", part_low[i]),
            f"min {min(u_high[i], u_low[i]):.2f}",
            below[i],
            contrasted,
        )
        for i in range(shown)
    ]
    across = min(columns, shown)
    height, width = cells[0].shape[:2]
    legend = _legend(b, contrasted, MARGIN + across * (width + MARGIN))
    down = -(-shown // across)
    grid = _blank(len(legend) + down * (height + MARGIN), legend.shape[1])
    grid[: len(legend)] = legend
    for i, cell in enumerate(cells):
        top, left = len(legend) + i // across * (height + MARGIN), MARGIN + i % across * (width + MARGIN)
        grid[top : top + height, left : left + width] = cell
    return grid


def _cell(high: np.ndarray, low: np.ndarray, title: str, below: bool, contrasted: bool) -> np.ndarray:
    """One pair: a title in the pair's colour, then the two framed views with their u beneath."""
    height, width = high.shape[:2]
    cell = _blank(FRAME + STRIP + GAP + 2 * height + FRAME, width + 2 * (GAP + FRAME))
    cell[:] = LOW if below else HIGH
    cell[FRAME + STRIP : -FRAME, FRAME:-FRAME] = PAPER
    _text(cell, title + " contrast" * bool(below and contrasted), FRAME + GAP, FRAME + STRIP - 7, PAPER)
    for i, view in enumerate((high, low)):
        top, left = FRAME + STRIP + GAP + i * height, FRAME + GAP
        cell[top : top + height, left : left + width] = view
    return cell


def _view(image: np.ndarray, label: str, takes_part: bool) -> np.ndarray:
    colour = HIGH if takes_part else LOW
    framed = cv2.copyMakeBorder(image, FRAME, FRAME, FRAME, FRAME, cv2.BORDER_CONSTANT, value=colour)
    view = np.concatenate([framed, _blank(STRIP, framed.shape[1])])
    _text(view, label, 1, len(view) - 5, colour)
    return view


def _legend(b: float, contrasted: bool, width: int) -> np.ndarray:
    """What the colours mean, in as many lines as the width asks for; widened when one entry is wider still."""
    entries = [
        (HIGH, f"view: u > {b:.3g}, in the classification"),
        (LOW, f"view: u <= {b:.3g}, not in the classification"),
        (LOW, f"pair: min u <= {b:.3g}" + ", in the contrast" * contrasted),
        (HIGH, f"pair: min u > {b:.3g}" + ", not in the contrast" * contrasted),
    ]
    box = LINE // 2
    lengths = [box + GAP + cv2.getTextSize(text, FONT, LEGEND_SCALE, 1)[0][0] + 2 * MARGIN for _, text in entries]
    width = max(width, MARGIN + max(lengths))
    corners, left, line = [], MARGIN, 0
    for length in lengths:
        if left + length > width and left > MARGIN:
            left, line = MARGIN, line + 1
        corners.append((left, MARGIN // 2 + line * LINE))
        left += length
    legend = _blank(MARGIN + (line + 1) * LINE, width)
    for (x, y), (colour, text) in zip(corners, entries, strict=True):
        top = y + (LINE - box) // 2
        legend[top : top + box, x : x + box] = colour
        if text.startswith("view"):
            legend[top + 3 : top + box - 3, x + 3 : x + box - 3] = PAPER
        _text(legend, text, x + box + GAP, top + box - 1, INK, LEGEND_SCALE)
    return legend


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAPER, dtype=np.uint8)


def _text(image: np.ndarray, text: str, x: int, y: int, colour: tuple[int, int, int], scale: float = SCALE) -> None:
    cv2.putText(image, text, (x, y), FONT, scale, colour, 1, cv2.LINE_AA)

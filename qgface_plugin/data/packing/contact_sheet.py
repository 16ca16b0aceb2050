"""Contact sheet: some identities of a record set, one per row, for a look at what is in it."""

from __future__ import annotations

import cv2
import numpy as np

from ...utils.errors import ConfigError, DataError
from ...utils.sampling import evenly_spaced
from ..images import decode
from ..sources.records import FaceRecords

GAP = 4  # pixels between images
MARGIN = 92  # pixels for the text on the left
BACKGROUND, INK, MISSING = (250, 250, 250), (40, 40, 40), (235, 200, 200)


def contact_sheet(source: FaceRecords, rows: int = 10, columns: int = 10, seed: int = 0, size: int = 112) -> np.ndarray:
    """Draw some identities in the order of their labels, one per row.

    A row begins with the label and the number of images, followed by images spread evenly over the identity's. An image
    that cannot be read is a red field.

    Args:
        source: the record set.
        rows: most identities; more are drawn from at random.
        columns: most images per identity.
        seed: of that draw.
        size: side of an image in pixels.

    Returns:
        uint8 (height, width, 3) RGB.

    Raises:
        ConfigError: rows or columns below 1.
        DataError: no readable record.
    """
    if rows < 1 or columns < 1:
        raise ConfigError(f"a contact sheet of {rows} x {columns} images: both must be at least 1")
    labels = source.labels()
    present = np.unique(labels[labels >= 0])
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(present)[:rows])
    members = [np.flatnonzero(labels == label) for label in chosen]
    columns = min(columns, max(map(len, members)))
    step = size + GAP
    sheet = np.full((GAP + len(chosen) * step, MARGIN + columns * step, 3), BACKGROUND, dtype=np.uint8)
    for row, (label, indices) in enumerate(zip(chosen, members, strict=True)):
        top = GAP + row * step
        _write(sheet, str(label), top + size // 2 - 4, 0.6)
        _write(sheet, f"{len(indices)} images" if len(indices) > 1 else "1 image", top + size // 2 + 14, 0.4)
        shown = indices[evenly_spaced(len(indices), columns)]
        for column, index in enumerate(shown.tolist()):
            left = MARGIN + column * step
            sheet[top : top + size, left : left + size] = _pixels(source, index, size)
    return sheet


def _pixels(source: FaceRecords, index: int, size: int) -> np.ndarray:
    try:
        return decode(source.read(index)[0], source.where(index), size)
    except DataError:
        return np.full((size, size, 3), MISSING, dtype=np.uint8)


def _write(sheet: np.ndarray, text: str, baseline: int, scale: float) -> None:
    cv2.putText(sheet, text, (8, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)

"""Contact sheet: some identities of a record set, one per row, for a look at what is in it."""

from __future__ import annotations

import logging
import unicodedata

import cv2
import numpy as np

from ...utils.errors import ConfigError, DataError
from ...utils.sampling import evenly_spaced
from ..images import decode
from ..sources.records import FaceRecords

LOGGER = logging.getLogger(__name__)

FONT = cv2.FONT_HERSHEY_SIMPLEX
INDENT = 8  # pixels before the text
GAP = 4  # pixels between images
MARGIN = 92  # pixels for the text on the left, where no name is wider
WIDEST = 260  # pixels for it
BACKGROUND, INK, MISSING = (250, 250, 250), (40, 40, 40), (235, 200, 200)


def contact_sheet(source: FaceRecords, rows: int = 10, columns: int = 10, seed: int = 0, size: int = 112) -> np.ndarray:
    """Draw some identities in the order of their labels, one per row.

    A row begins with the identity's name, where `identities.tsv` has it, its label and the number of images, followed
    by images spread evenly over the identity's. An image that cannot be read is a pink field.

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
    names = _names(source)
    heads = [_head(names.get(label), label, len(found)) for label, found in zip(chosen.tolist(), members, strict=True)]
    margin = max([MARGIN, *(INDENT + _width(text, scale) + GAP for head in heads for text, scale in head)])
    step = size + GAP
    sheet = np.full((GAP + len(chosen) * step, margin + columns * step, 3), BACKGROUND, dtype=np.uint8)
    for row, (head, indices) in enumerate(zip(heads, members, strict=True)):
        top = GAP + row * step
        for (text, scale), baseline in zip(head, (size // 2 - 4, size // 2 + 14), strict=True):
            _write(sheet, text, top + baseline, scale)
        shown = indices[evenly_spaced(len(indices), columns)]
        for column, index in enumerate(shown.tolist()):
            left = margin + column * step
            sheet[top : top + size, left : left + size] = _pixels(source, index, size)
    return sheet


def _names(source: FaceRecords) -> dict[int, str]:
    try:
        return source.names()
    except DataError as error:
        LOGGER.warning("%s; the sheet shows labels", error)
        return {}


def _head(name: str | None, label: int, images: int) -> list[tuple[str, float]]:
    """The two lines of text before a row, each with its scale."""
    count = f"{images} images" if images > 1 else "1 image"
    if name is None:
        return [(str(label), 0.6), (count, 0.4)]
    return [(_fitting(_plain(name), 0.45), 0.45), (f"label {label}, {count}", 0.4)]


def _plain(name: str) -> str:
    """A name in the letters that OpenCV draws: accents are left out, other scripts become question marks."""
    letters = unicodedata.normalize("NFKD", name)
    return "".join(c if " " <= c <= "~" else "?" for c in letters if not unicodedata.combining(c))


def _fitting(text: str, scale: float) -> str:
    """The text, shortened in its middle to what has room."""
    for kept in range(min(len(text), WIDEST), 0, -1):
        shown = text if kept == len(text) else f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
        if _width(shown, scale) <= WIDEST - INDENT - GAP:
            return shown
    return ""


def _width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, FONT, scale, 1)[0][0]


def _pixels(source: FaceRecords, index: int, size: int) -> np.ndarray:
    try:
        return decode(source.read(index)[0], source.where(index), size)
    except DataError:
        return np.full((size, size, 3), MISSING, dtype=np.uint8)


def _write(sheet: np.ndarray, text: str, baseline: int, scale: float) -> None:
    cv2.putText(sheet, text, (INDENT, baseline), FONT, scale, INK, 1, cv2.LINE_AA)

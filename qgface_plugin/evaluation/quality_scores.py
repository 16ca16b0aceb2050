"""Quality of images, one number each, higher meaning better: from the encoder, from the pixels, or from a file.

`norm` is that of the raw feature of the image as it is; `flip` the cosine of that feature and the one of the mirror
image, which differ more the less of a face can be seen; the sources of `config.qgface.quality` that look at images
alone, such as `sharpness`, go by their names. Any other name is a file, with one line per image:

- what BSI's OFIQ writes: `Filename;UnifiedQualityScore;...;UnifiedQualityScore.scalar;...`;
- XQLFW's `xqlfw_scores.txt`: `ID Num Score`;
- a CSV with titles, or two columns without, as FIQA tools write it: name of the image, number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..models.embeddings import Embeddings
from ..utils.errors import ConfigError, DataError
from ..utils.registry import QUALITY_SOURCES
from ..utils.text import fields_of, finite_number, read_csv, read_lines, whole_number

NAME_COLUMNS = ("filename", "file", "path", "image", "image_path", "name", "img")
SCORE_COLUMNS = ("unifiedqualityscore.scalar", "quality", "quality_score", "score", "scalar")
OF_EMBEDDINGS: dict[str, Callable[[Embeddings], np.ndarray]] = {
    "norm": lambda embeddings: np.linalg.norm(embeddings.original.astype(np.float64), axis=1),
    "flip": lambda embeddings: _cosines(embeddings.original, embeddings.mirrored),
}
PIXELS = 256  # images at a time
XQLFW_TITLES = ["ID", "Num", "Score"]


def image_sources() -> list[str]:
    """Names of the quality sources that look at pixels alone."""
    return [name for name, source in QUALITY_SOURCES.items() if source.of_images is not None and name != "degradation"]


def quality_of_images(name: str, images: np.ndarray) -> np.ndarray:
    """Scores of a source that looks at pixels alone, (N,) float64.

    Args:
        name: one of `image_sources`.
        images: uint8 (N, 112, 112, 3) RGB.

    Example:
        >>> flat = np.full((1, 112, 112, 3), 90, np.uint8)
        >>> noise = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), np.uint8)
        >>> quality_of_images("sharpness", flat)[0] < quality_of_images("sharpness", noise)[0]
        np.True_
    """
    import torch

    from ..data.pair_dataset import normalise

    found = []
    for start in range(0, len(images), PIXELS):
        pixels = torch.from_numpy(np.ascontiguousarray(images[start : start + PIXELS]))
        found.append(QUALITY_SOURCES[name].of_images(normalise(pixels.permute(0, 3, 1, 2)), None).double().numpy())
    return np.concatenate(found) if found else np.empty(0)


def check_sources(names: Sequence[str]) -> None:
    """Refuse names that are neither a source nor a file, or are there twice.

    Raises:
        ConfigError: says what there is.
    """
    known = [*OF_EMBEDDINGS, *image_sources()]
    for name in names:
        if name not in known and not Path(split_column(name)[0]).is_file():
            raise ConfigError(f"quality {name!r} is neither {', '.join(known)} nor a file with a score of each image")
    if len(set(names)) < len(names):
        raise ConfigError(f"a quality is named twice in {' '.join(names)}")


def split_column(name: str) -> tuple[str, str | None]:
    """File and column of FILE:COLUMN; a file that has that very name is one without a column.

    Example:
        >>> split_column("ofiq.csv:Sharpness.scalar")
        ('ofiq.csv', 'Sharpness.scalar')
    """
    file, separator, column = name.rpartition(":")
    return (file, column) if separator and file and not Path(name).is_file() else (name, None)


@dataclass(frozen=True)
class ScoreFile:
    """Scores of images by their names, as a file has them.

    Attributes:
        path: of the file.
        column: the scores' title; empty in a file without titles.
        scores: name as it stands there -> score; -inf where the tool could not score the image.
    """

    path: Path
    column: str
    scores: Mapping[str, float]

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Scores of images, (N,) float64.

        An image is found by as many of the last parts of its path as it takes to tell it from the others of the file:
        by its file name where that is there once. Suffixes need not agree.

        Args:
            names: paths of the images, relative to their set.

        Raises:
            DataError: images that the file does not have, or has several of, counted and named.
        """
        by_tail: dict[str, set[str]] = {}
        for name in self.scores:
            parts = _parts(name)
            for count in range(1, len(parts) + 1):
                by_tail.setdefault("/".join(parts[-count:]), set()).add(name)
        found = np.empty(len(names))
        absent: list[str] = []
        several: list[str] = []
        for row, name in enumerate(names):
            parts = _parts(name)
            # The longest tail that the file knows: `a/1.jpg` there and `/data/a/1.jpg` here are one image.
            tails = ("/".join(parts[-count:]) for count in range(len(parts), 0, -1))
            candidates = next((by_tail[tail] for tail in tails if tail in by_tail), set())
            if len(candidates) == 1:
                found[row] = self.scores[next(iter(candidates))]
            else:
                (several if candidates else absent).append(name)
        for kind, what in ((absent, "have no line in it"), (several, "fit several of its lines")):
            if kind:
                shown = ", ".join(kind[:5]) + (", ..." if len(kind) > 5 else "")
                raise DataError(f"{self.path}: {len(kind):,} of {len(names):,} images {what}: {shown}")
        return found


def read_scores(path: str | Path, column: str | None = None) -> ScoreFile:
    """Scores from a file of one of the kinds above.

    Where a cell is empty or "nan", and where OFIQ's `.scalar` is -1 (its mark of a failure), the image has -inf.

    Args:
        path: the file.
        column: title of the scores' column; None: the one that says quality, or the only one beside the names.

    Raises:
        DataError: unreadable, no such column, a line that does not fit, one image twice; names file and line.
    """
    path = Path(path)
    lines = read_lines(path, "list of quality scores")
    if not lines:
        raise DataError(f"{path}: the list of quality scores is empty")
    head = lines[0][1]
    if not any(mark in head for mark in ",;"):
        rows = [(number, fields_of(line) if "\t" not in line else _by_tabs(line)) for number, line in lines]
    else:
        rows = list(read_csv(path, "list of quality scores"))
    titles = rows[0][1]
    if titles == XQLFW_TITLES:
        rows = [(number, _xqlfw(fields, path, number)) for number, fields in rows[1:]]
        return _scores(path, "Score", rows, 0, 1)
    if len(titles) == 2 and column is None and finite_number(titles[1]) is not None:  # no titles
        return _scores(path, "", rows, 0, 1)
    lower = [title.lower() for title in titles]
    names = next((lower.index(name) for name in NAME_COLUMNS if name in lower), 0)
    if column is not None:
        if column.lower() not in lower:
            raise DataError(f"{path}: no column {column!r}; it has {', '.join(filter(None, titles))}")
        at = lower.index(column.lower())
    else:
        others = [place for place, title in enumerate(titles) if place != names and title]
        known = next((lower.index(name) for name in SCORE_COLUMNS if name in lower), None)
        if known is None and len(others) != 1:
            raise DataError(
                f"{path}: which of {', '.join(titles[place] for place in others) or 'no'} columns is the quality? "
                f"Name it: {path}:COLUMN"
            )
        at = others[0] if known is None else known
    return _scores(path, titles[at], rows[1:], names, at)


def _by_tabs(line: str) -> list[str]:
    return [field.strip() for field in line.split("\t") if field.strip()]


def _xqlfw(fields: list[str], path: Path, number: int) -> list[str]:
    index = whole_number(fields[1]) if len(fields) == 3 else None
    if index is None:
        raise DataError(f"{path} line {number}: {' '.join(fields)[:80]!r} is not `name number score`")
    return [f"{fields[0]}/{fields[0]}_{index:04d}", fields[2]]


def _scores(path: Path, column: str, rows: list[tuple[int, list[str]]], name: int, at: int) -> ScoreFile:
    scores: dict[str, float] = {}
    for number, fields in rows:
        if len(fields) <= name or not fields[name]:
            raise DataError(f"{path} line {number}: no name of an image in column {name + 1}")
        text = fields[at] if len(fields) > at else ""
        score = -np.inf if text.lower() in ("", "nan") else finite_number(text)
        if score is None:
            raise DataError(f"{path} line {number}: the quality {text[:40]!r} is no number")
        if column.endswith(".scalar") and score == -1:
            score = -np.inf
        if fields[name] in scores:
            raise DataError(f"{path} line {number}: {fields[name]} is there twice; keep one of the lines")
        scores[fields[name]] = score
    if not scores:
        raise DataError(f"{path}: no score is in it")
    return ScoreFile(path, column, scores)


def _parts(name: str) -> list[str]:
    """Parts of a path, the last one without the suffix of an image."""
    parts = [part for part in PurePosixPath(name.strip().replace("\\", "/")).parts if part not in ("/", ".")]
    if not parts:
        return [name]
    return [*parts[:-1], re.sub(r"\.(?:jpe?g|png|bmp|webp|tiff?)$", "", parts[-1], flags=re.IGNORECASE)]


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines of two features of each image, (N,) float64; 0 where one is zero."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / np.where(norms == 0, 1, norms)

"""Identification (1:N) of IJB: probe templates searched in two galleries, each of about half of the subjects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....utils.errors import DataError
from ....utils.text import read_csv, whole_number
from ...metrics.identification import BLOCK_BYTES, TpirAtFpir, rank_blocks, rank_rate, tpir_at_fpir
from .templates import Mode, Templates

FPIRS = (0.01, 0.1)
RANKS = (1, 5, 10)
GALLERIES = {"IJBB": ("S1", "S2"), "IJBC": ("G1", "G2")}


@dataclass(frozen=True)
class Enrolment:
    """Templates and who they show: one gallery, or the probes.

    Attributes:
        name: for messages and tables.
        templates: (n,) int64 ids, ascending, each once.
        subjects: (n,) int64.
    """

    name: str
    templates: np.ndarray
    subjects: np.ndarray

    def __len__(self) -> int:
        return len(self.templates)


@dataclass(frozen=True)
class GalleryResult:
    """Result of one gallery. Fractions, never percent.

    Attributes:
        name: of the gallery.
        size: number of its templates.
        mated: number of probes whose subject is in it.
        top: rank k -> share of the mated probes.
        tpir: at each of `FPIRS`.
    """

    name: str
    size: int
    mated: int
    top: dict[int, float]
    tpir: tuple[TpirAtFpir, ...]


@dataclass(frozen=True)
class IjbIdentification:
    """Result of 1:N in one mode: both galleries, and their mean as insightface's tool forms it.

    Attributes:
        mode: what of an image went into its template.
        probes: number of probe templates.
        galleries: one result each.
    """

    mode: Mode
    probes: int
    galleries: tuple[GalleryResult, ...]

    @property
    def top(self) -> dict[int, float]:
        """Rank k -> found probes of both galleries over all probes. Each probe is in one of them, so this is a rate."""
        return {k: sum(round(g.top[k] * g.mated) for g in self.galleries) / self.probes for k in RANKS}

    @property
    def tpir(self) -> list[dict[str, float]]:
        """TPIR at each of `FPIRS`, the mean over the galleries: strictly, and as insightface reads it."""
        points = []
        for at, fpir in enumerate(FPIRS):
            here = [gallery.tpir[at] for gallery in self.galleries]
            mean = {key: float(np.mean([getattr(point, key) for point in here])) for key in ("tpir", "insightface")}
            points.append({"fpir": fpir, **mean})
        return points

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return {
            "mode": self.mode.name,
            "meaning": self.mode.meaning,
            "probes": self.probes,
            "galleries": [
                {**asdict(gallery), "top": {str(k): rate for k, rate in gallery.top.items()}}
                for gallery in self.galleries
            ],
            "mean": {"top": {str(k): rate for k, rate in self.top.items()}, "tpir": self.tpir},
        }


def read_protocol(folder: Path, subset: str) -> tuple[tuple[Enrolment, ...], Enrolment]:
    """Both galleries and the probes of the set in `folder`.

    Raises:
        DataError: a file or line that does not fit; names it.
    """
    prefix = folder / "meta" / f"{subset.lower()}_1N"
    galleries = tuple(_enrolment(Path(f"{prefix}_gallery_{name}.csv"), name) for name in GALLERIES[subset])
    return galleries, _enrolment(Path(f"{prefix}_probe_mixed.csv"), "probes")


def identify(
    templates: Templates,
    galleries: tuple[Enrolment, ...],
    probes: Enrolment,
    mode: Mode,
    enrolled: Templates | None = None,
) -> IjbIdentification:
    """Search the probes in each gallery.

    Args:
        templates: by the model that is evaluated.
        galleries, probes: who is in them.
        mode: how the templates were made.
        enrolled: the same templates by the model that the galleries were enrolled with; None: `templates`.

    Raises:
        DataError: a template without images, a gallery that has all of the probes' subjects or none of them.
    """
    wanted = templates.features[templates.rows(probes.templates, "the probes of the 1:N protocol")]
    enrolled = templates if enrolled is None else enrolled
    results = []
    for gallery in galleries:
        rows = enrolled.rows(gallery.templates, f"gallery {gallery.name} of the 1:N protocol")
        blocks = _similarities(wanted, enrolled.features[rows])
        ranking = rank_blocks(blocks, _people(probes), _people(gallery))
        try:
            top = {k: rank_rate(ranking, k) for k in RANKS}
            tpir = tuple(tpir_at_fpir(ranking, FPIRS))
        except DataError as error:
            raise DataError(f"gallery {gallery.name}: {error}") from error
        results.append(GalleryResult(gallery.name, len(gallery), int(ranking.mated.sum()), top, tpir))
    return IjbIdentification(mode, len(probes), tuple(results))


def _similarities(probes: np.ndarray, gallery: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of rows of probes @ gallery.T, float64: what insightface's tool compares to the last bit."""
    height = max(1, BLOCK_BYTES // (8 * len(gallery)))
    for start in range(0, len(probes), height):
        yield probes[start : start + height] @ gallery.T


def _people(enrolment: Enrolment) -> np.ndarray:
    if enrolment.subjects.min() < 0:
        raise DataError(f"{enrolment.name}: subject {enrolment.subjects.min()}: subjects are numbered from 0 on")
    return enrolment.subjects


def _enrolment(path: Path, name: str) -> Enrolment:
    """Columns TEMPLATE_ID and SUBJECT_ID, the first two of a file with a header. Repeated lines count once."""
    if not path.is_file():
        raise DataError(f"{path}: No such file; the 1:N protocol needs this file")
    pairs = []
    for row, (line, fields) in enumerate(read_csv(path, "list of templates")):
        numbers = [whole_number(field) for field in fields[:2]]
        if len(numbers) == 2 and None not in numbers:
            pairs.append(numbers)
        elif row > 0 or numbers[0] is not None:
            raise DataError(
                f"{path}: line {line} is {','.join(fields)[:80]!r}: TEMPLATE_ID,SUBJECT_ID must be two integers"
            )
    if not pairs:
        raise DataError(f"{path}: no template is listed in it")
    templates, subjects = np.array(sorted(set(map(tuple, pairs))), dtype=np.int64).T
    again = np.flatnonzero(templates[1:] == templates[:-1])
    if len(again):
        who = subjects[again[0]], subjects[again[0] + 1]
        raise DataError(f"{path}: template {templates[again[0]]} is of subject {who[0]} and of subject {who[1]}")
    return Enrolment(name, templates, subjects)

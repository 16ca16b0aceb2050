"""Rows of the paper's tables, with the numbers that its authors publish, in percent.

Source of the numbers: the table "Comparing with AdaFace on different Ablation" in the README of the authors'
repository, IsidoreSong/QGFace. That table leaves one setting out and calls D what this project calls E.
A number that is in no source at hand is absent here, not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..evaluation.report.table import ALL, COLUMNS

NAMES = (*(column.title for column in COLUMNS), ALL)


@dataclass(frozen=True)
class PaperRow:
    """One row of a table.

    Attributes:
        label: what the paper calls it.
        recipe: the recipe's file name without .py.
        about: what it is, in a few words.
        paper: the paper's numbers by column, percent.
    """

    label: str
    recipe: str
    about: str
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: with the table's number.
        rows: in the paper's order.
    """

    title: str
    rows: tuple[PaperRow, ...]


def _numbers(*percent: float) -> dict[str, float]:
    return dict(zip(NAMES, percent, strict=True))


QGFACE = _numbers(92.31, 99.54, 100.0, 69.85, 91.05, 95.43, 91.36)

TABLES: dict[str, PaperTable] = {
    "1": PaperTable(
        "Table I: degradation, quality gate (QS) and contrast (CL)",
        (
            PaperRow(
                "Baseline", "table1_baseline", "no degraded view",
                _numbers(61.69, 97.23, 99.85, 63.98, 90.26, 95.62, 84.77),
            ),
            PaperRow(
                "A", "table1_a", "AdaFace's augmentation",
                _numbers(66.77, 99.08, 100.0, 67.49, 74.07, 95.76, 83.86),
            ),
            PaperRow(
                "B", "table1_b", "AdaFace's, QS",
                _numbers(68.15, 98.46, 100.0, 67.03, 70.45, 95.73, 83.30),
            ),
            PaperRow(
                "C", "table1_c", "AdaFace's, QS, CL",
                _numbers(70.92, 98.62, 99.69, 66.58, 90.59, 95.71, 87.02),
            ),
            PaperRow("D", "table1_d", "the paper's degradation"),
            PaperRow("E", "table1_e", "the paper's, QS, CL", QGFACE),
        ),
    ),
    "2": PaperTable(
        "Table II: where negatives come from",
        (
            PaperRow("none", "table2_none", "no contrast"),
            PaperRow("batch", "table2_batch", "the global batch"),
            PaperRow("momentum", "table2_momentum", "keys of a slowly moving encoder"),
            PaperRow("proxy", "table2_proxy", "features refreshed by their class centres", QGFACE),
        ),
    ),
    "3": PaperTable(
        "Table III: threshold b",
        (
            PaperRow("none", "table3_none", "both gates open"),
            PaperRow("0.1", "table3_b01", "b = 0.1"),
            PaperRow("0.2", "table3_b02", "b = 0.2", QGFACE),
            PaperRow("0.3", "table3_b03", "b = 0.3"),
        ),
    ),
}  # fmt: skip

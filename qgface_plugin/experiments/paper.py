"""Rows of the paper's tables, with the numbers that it prints, in percent.

Source of the numbers: Tables I, II and III of the paper. The table in the README of its authors' repository,
IsidoreSong/QGFace, leaves setting D out and calls D what the paper and this project call E. The last column, the mean
of the six, is worked out from the other six.
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
    """A row as the paper prints it, d1, d2, d3, TinyFace, IJB-B and the sharp sets, and their mean."""
    return dict(zip(NAMES, (*percent, round(sum(percent) / len(percent), 2)), strict=True))


QGFACE = _numbers(92.31, 99.54, 100.0, 69.85, 91.05, 95.43)

TABLES: dict[str, PaperTable] = {
    "1": PaperTable(
        "Table I: degradation, quality partition (QP) and contrast (CL)",
        (
            PaperRow(
                "Baseline", "table1_baseline", "no degraded view",
                _numbers(61.69, 97.23, 99.85, 63.98, 90.26, 95.62),
            ),
            PaperRow(
                "A", "table1_a", "AdaFace's augmentation",
                _numbers(66.77, 99.08, 100.0, 67.49, 74.07, 95.76),
            ),
            PaperRow(
                "B", "table1_b", "AdaFace's, QP",
                _numbers(68.15, 98.46, 100.0, 67.03, 70.45, 95.73),
            ),
            PaperRow(
                "C", "table1_c", "AdaFace's, QP, CL",
                _numbers(70.92, 98.62, 99.69, 66.58, 90.59, 95.71),
            ),
            PaperRow(
                "D", "table1_d", "the paper's degradation",
                _numbers(88.62, 99.23, 100.0, 68.80, 89.50, 95.46),
            ),
            PaperRow("E", "table1_e", "the paper's, QP, CL", QGFACE),
        ),
    ),
    "2": PaperTable(
        "Table II: where negatives come from",
        (
            PaperRow("none", "table2_none", "no contrast", _numbers(87.85, 99.38, 100.0, 68.24, 90.57, 95.47)),
            PaperRow("batch", "table2_batch", "the global batch", _numbers(87.54, 99.38, 100.0, 68.67, 87.38, 95.28)),
            PaperRow(
                "momentum", "table2_momentum", "keys of a slowly moving encoder",
                _numbers(63.08, 97.85, 99.85, 62.34, 88.70, 95.18),
            ),
            PaperRow("proxy", "table2_proxy", "features refreshed by their class centres", QGFACE),
        ),
    ),
    "3": PaperTable(
        "Table III: threshold b",
        (
            PaperRow("none", "table3_none", "both gates open", _numbers(90.77, 99.69, 100.0, 69.80, 91.26, 95.08)),
            PaperRow("0.1", "table3_b01", "b = 0.1", _numbers(86.00, 99.54, 100.0, 68.13, 90.87, 95.41)),
            PaperRow("0.2", "table3_b02", "b = 0.2", QGFACE),
            PaperRow("0.3", "table3_b03", "b = 0.3", _numbers(88.92, 99.54, 100.0, 68.51, 89.33, 94.95)),
        ),
    ),
}  # fmt: skip

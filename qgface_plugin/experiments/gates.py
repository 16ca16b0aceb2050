"""What the gates of a run did towards its end: without it nobody can say what a row of a table stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .metrics import read_metrics

# key in metrics.jsonl -> how tables call it; all are fractions
GATES = {
    "lq_share_pair": "pairs contrasted",
    "lq_share_view": "views below b",
    "quality_order": "quality order",
    "norm_order": "norm order",
}
LAST = 0.25  # share of the steps that is looked at


def gates_of(run: Path) -> dict[str, float | None]:
    """Means over the last quarter of the logged steps; None for what the run does not log, or has not logged yet.

    `pairs contrasted` is the share of pairs with u_p <= b, which are contrasted where the row has a queue.
    Raises DataError for a log that cannot be read.
    """
    terms = read_metrics(run).terms if (run / "metrics.jsonl").is_file() else {}
    return {name: _end(*terms[key]) if key in terms else None for key, name in GATES.items()}


def _end(steps: np.ndarray, values: np.ndarray) -> float:
    return float(values[steps > (1 - LAST) * steps.max()].mean())

"""Curves as results keep them: a ROC of at most 200 points, and how many pairs of each kind have which score."""

from __future__ import annotations

from typing import Any

import numpy as np

from .sorted_scores import SortedScores

POINTS = 200
EDGES = np.linspace(-1, 1, 81)  # of the histograms
EDGES.setflags(write=False)


def saved_curves(scores: SortedScores) -> dict[str, Any]:
    """What a figure of these cosines needs.

    Returns:
        `roc` {"far", "tar", "threshold"}: on a logarithmic grid of FARs from 1 / impostors to 1, the largest TAR that
        does not exceed it, each point of the curve once; `histogram` {"edges", "genuine", "impostor"}: counts.

    Example:
        >>> found = saved_curves(SortedScores(np.array([0.9, 0.2]), np.array([True, False])))
        >>> found["roc"]["far"], sum(found["histogram"]["genuine"])
        ([0.0, 1.0], 1)
    """
    corners = scores.corners
    grid = np.append(0, np.geomspace(1 / len(scores.impostor), 1, POINTS - 1))
    at = np.unique(np.searchsorted(corners.far, grid * (1 + 1e-12), side="right") - 1)
    both = {"genuine": scores.genuine, "impostor": scores.impostor}
    return {
        "roc": {
            "far": corners.far[at].tolist(),
            "tar": corners.tar[at].tolist(),
            "threshold": [float(value) if np.isfinite(value) else None for value in corners.thresholds[at]],
        },
        "histogram": {
            "edges": EDGES.tolist(),
            **{kind: np.histogram(values.clip(-1, 1), EDGES)[0].tolist() for kind, values in both.items()},
        },
    }

"""The paper's Fig. 5 from saved SCface results: what a run gains over another one, at each distance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...evaluation.results import read_results
from ...evaluation.similarity_figure import similarity_panels
from ...utils.errors import ConfigError, DataError
from ..metrics import split_name
from .canvas import new_figure, save


def draw_scface(folder: Path, runs: Sequence[str], name: str = "fig5_similarity") -> list[Path]:
    """runs: one or two folders with results/scface.json, or NAME=FOLDER; the improvement is of the first one.

    Raises DataError for a run that was not evaluated on SCface, ConfigError for more than two.
    """
    if not 1 <= len(runs) <= 2:
        raise ConfigError(f"{len(runs)} runs are given: name the run, and the one that it is compared with")
    models = {}
    for given in runs:
        label, place = split_name(given)
        results = read_results(place)
        if "scface" not in results:
            raise DataError(f"{place}: no results/scface.json is in it; run tools/eval_scface.py on its model first")
        label = label or Path(place).resolve().name
        models[label if label not in models else f"{label} ({place})"] = results["scface"].results
    figure = new_figure(3.4 * 3, 3.4)
    similarity_panels(figure, models)
    return save(figure, folder, name)

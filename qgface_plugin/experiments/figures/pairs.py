"""The paper's Fig. 4: training pairs in the order of their quality, framed by what their gates do with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...data.degradation.cpu import degrade_and_measure
from ...data.images import decode
from ...data.sources.source import FaceSource
from ...hosts.pair_grid import pair_grid
from ...utils.errors import ConfigError
from ...utils.sampling import evenly_spread
from .canvas import new_figure, save
from .trained import TrainedRun

COLUMNS, ROWS = 8, 2


def draw_pairs(
    folder: Path, trained: TrainedRun, source: FaceSource, seed: int = 0, sample: int = 256, name: str = "fig4_pairs"
) -> list[Path]:
    """Of `sample` images, COLUMNS * ROWS from the worst pair to the best one, evenly spaced in rank.

    The views are degraded as the run's recipe says, without mirror images; u is from the statistics of the end of
    training and the model as it is evaluated. Raises
    ConfigError for a run of single views, DataError for images that cannot be read.
    """
    policy = trained.run.degradation
    if policy is None:
        raise ConfigError("the run's recipe has degradation = None, single views: it has no pairs to draw")
    policy = replace(policy, flip_p=0.0)
    chosen = evenly_spread(len(source), sample)
    faces = [(*source.read(int(i)), source.where(int(i))) for i in chosen]
    high, labels = (
        np.stack([decode(face, where) for face, _, where in faces]),
        np.array([label for _, label, _ in faces]),
    )
    made = [degrade_and_measure(image, policy, np.random.default_rng((seed, i))) for i, image in enumerate(high)]
    low, strength = np.stack([view for view, _ in made]), np.array([octaves for _, octaves in made])
    u_high, u_low = trained.quality(high, np.zeros(len(high)), labels), trained.quality(low, strength, labels)
    order = np.minimum(u_high, u_low).argsort(kind="stable")
    shown = order[evenly_spread(len(order), COLUMNS * ROWS)]
    views = (view[shown].transpose(0, 3, 1, 2) for view in (high, low))
    grid = pair_grid(*views, u_high[shown], u_low[shown], trained.b, COLUMNS, ROWS)
    height, width, _ = grid.shape
    figure = new_figure(width / 150, height / 150)
    panel = figure.add_subplot()
    panel.imshow(grid, interpolation="none")
    panel.set_axis_off()
    return save(figure, folder, name)

"""A saved run as figures need it: its encoder, its recipe, and what its quality gate had learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ... import functional as F
from ...errors import CheckpointError, ConfigError
from ...evaluation.models import FaceModel, load_model
from ...hosts.checkpoint import load
from ...recipe import Run, load_recipe
from ..plan import RECIPE

STATISTICS = "margin_softmax.quality."


@dataclass(frozen=True)
class TrainedRun:
    """model: the encoder; mean, std: mu and sigma of the norms at the end of training; run: the recipe."""

    model: FaceModel
    mean: torch.Tensor
    std: torch.Tensor
    run: Run

    def quality(self, norms: np.ndarray) -> np.ndarray:
        """u of norms (N,) of raw features, in [0, 1] (eq. 1, section IV-D)."""
        method = self.run.qgface
        floor = method.sigma_rule == "floor"
        zhat = F.quality_indicator(torch.from_numpy(norms), self.mean, self.std, method.c, floor=floor)
        return F.unit_scale(zhat).numpy()


def load_trained(folder: str | Path, recipe: str | Path | None = None, device: str = "auto") -> TrainedRun:
    """The run in `folder`. recipe: its recipe; None: the one that tools/ablation.py keeps in the folder.

    Raises CheckpointError where the folder lacks a checkpoint or the checkpoint has no statistics, ConfigError for
    the recipe, or where its gate follows anything but the norm and a fixed threshold.
    """
    folder = Path(folder)
    run = load_recipe(folder / RECIPE if recipe is None else recipe, {})
    if run.qgface.quality != "norm" or run.qgface.b_quantile is not None:
        raise ConfigError(
            f"{folder} was trained with config.qgface.quality = {run.qgface.quality!r} and b_quantile = "
            f"{run.qgface.b_quantile!r}: figures draw the gate of quality = 'norm' with a fixed b only"
        )
    path = folder / "checkpoint_gpu_0.pt"
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: the gate's statistics are in the checkpoint, not in model.pt")
    state = load(path)
    try:
        mean, std = (state["state_dict_softmax_fc"][f"{STATISTICS}{name}"].float() for name in ("mean", "std"))
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has no statistics of quality: it is no checkpoint of a QGFace run") from error
    return TrainedRun(load_model(str(folder), network=run.network, device=device), mean, std, run)

"""Fig. 4 of the paper: training pairs in the order of their quality, framed by what their gates do with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from ...config.recipe import Run, load_recipe
from ...data.degradation.cpu import degrade_and_measure
from ...data.images import decode
from ...data.pair_batch import normalise
from ...data.sources.source import FaceSource
from ...evaluation.report.canvas import new_figure, save
from ...loss import functional as F
from ...loss.quality import BatchRows, of_images
from ...models import FaceModel, load_model
from ...training.checkpoints.reshard import latest_files, merge
from ...training.pair_grid import pair_grid
from ...utils.errors import CheckpointError, ConfigError
from ...utils.registry import QUALITY_SOURCES
from ...utils.sampling import evenly_spaced
from ...utils.torch_files import load
from ..plan import RECIPE

COLUMNS, ROWS = 8, 2
STATISTICS, THRESHOLD = "margin_softmax.quality.", "margin_softmax.threshold.value"


@dataclass(frozen=True)
class TrainedRun:
    """A saved run as figures need it: its encoder, its recipe, and what its quality gate had learnt.

    Attributes:
        model: the encoder.
        mean: mu at the end of training.
        std: sigma at the end of training.
        b: threshold at the end of training.
        run: the recipe.
        centres: (n, d), all class centres, where quality follows from them.
    """

    model: FaceModel
    mean: torch.Tensor
    std: torch.Tensor
    b: float
    run: Run
    centres: torch.Tensor | None = None

    def quality(self, views: np.ndarray, strength: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """u of views (eq. 1, section IV-D). Strength and labels are for a source of quality that asks for them.

        Args:
            views: uint8 (N, h, w, 3) RGB.
            strength: (N,), how strongly each was degraded, 0 for originals.
            labels: (N,) int, classes of the training.

        Returns:
            (N,) in [0, 1].
        """
        method = self.run.qgface
        images = normalise(torch.from_numpy(views).permute(0, 3, 1, 2))
        numbers = of_images(method.quality, images, torch.from_numpy(strength.astype(np.float32)))
        if numbers is None:
            raw, own = torch.from_numpy(self.model.embed(views).original), torch.from_numpy(labels.astype(np.int64))
            centres = raw.new_empty(0, raw.shape[1]) if self.centres is None else self.centres  # the norm needs none
            rows = BatchRows(raw, normalize(raw), centres, None, own, raw.norm(dim=1))
            numbers = QUALITY_SOURCES[method.quality].of_rows(rows)
        floor, limits = method.sigma_rule == "floor", QUALITY_SOURCES[method.quality].limits
        zhat = F.quality_indicator(numbers, self.mean, self.std, method.c, floor=floor, limits=limits)
        return F.unit_scale(zhat).numpy()


def load_trained(folder: str | Path, recipe: str | Path | None = None, device: str = "auto") -> TrainedRun:
    """The run in a folder.

    Args:
        folder: with model.pt and checkpoint_gpu_0.pt.
        recipe: the run's; None: the one that `qgface ablation` keeps in the folder.
        device: of the encoder.

    Raises:
        CheckpointError: the folder lacks a checkpoint, or the checkpoint has no statistics.
        ConfigError: the recipe does not fit.
    """
    folder = Path(folder)
    run = load_recipe(folder / RECIPE if recipe is None else recipe, {})
    path = folder / "checkpoint_gpu_0.pt"
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: the gate's statistics are in the checkpoint, not in model.pt")
    of_centres = run.qgface.quality != "norm" and QUALITY_SOURCES[run.qgface.quality].of_rows is not None
    state = merge(latest_files(folder)) if of_centres else load(path)
    try:
        saved = state["state_dict_softmax_fc"]
        mean, std = (saved[f"{STATISTICS}{name}"].float() for name in ("mean", "std"))
        b = run.qgface.b if run.qgface.b_quantile is None else float(saved[THRESHOLD])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has no statistics of quality: it is no checkpoint of a QGFace run") from error
    centres = saved["weight"].float() if of_centres else None
    return TrainedRun(load_model(str(folder), network=run.network, device=device), mean, std, b, run, centres)


def draw_pairs(
    folder: Path, trained: TrainedRun, source: FaceSource, seed: int = 0, sample: int = 256, name: str = "fig4_pairs"
) -> list[Path]:
    """Draw pairs of a data set from the worst to the best one, COLUMNS * ROWS of them, evenly spaced in rank.

    The views are degraded as the run's recipe says, without mirror images; u is from the statistics of the end of
    training and the model as it is evaluated.

    Args:
        folder: where the files go.
        trained: the run.
        source: the data set.
        seed: of the degraded views.
        sample: images that are ranked.
        name: of the files.

    Returns:
        The PDF and the PNG.

    Raises:
        ConfigError: a run of single views, or matplotlib is not installed.
        DataError: images that cannot be read, or files that cannot be written.
    """
    policy = trained.run.degradation
    if policy is None:
        raise ConfigError("the run's recipe has degradation = None, single views: it has no pairs to draw")
    policy = replace(policy, flip_p=0.0)
    chosen = evenly_spaced(len(source), sample)
    faces = [(*source.read(int(i)), source.where(int(i))) for i in chosen]
    high, labels = (
        np.stack([decode(face, where) for face, _, where in faces]),
        np.array([label for _, label, _ in faces]),
    )
    made = [degrade_and_measure(image, policy, np.random.default_rng((seed, i))) for i, image in enumerate(high)]
    low, strength = np.stack([view for view, _ in made]), np.array([octaves for _, octaves in made])
    u_high, u_low = trained.quality(high, np.zeros(len(high)), labels), trained.quality(low, strength, labels)
    order = np.minimum(u_high, u_low).argsort(kind="stable")
    shown = order[evenly_spaced(len(order), COLUMNS * ROWS)]
    originals, degraded = (view[shown].transpose(0, 3, 1, 2) for view in (high, low))
    contrasted = trained.run.qgface.queue != "none"
    grid = pair_grid(originals, degraded, u_high[shown], u_low[shown], trained.b, COLUMNS, ROWS, contrasted)
    height, width, _ = grid.shape
    figure = new_figure(width / 150, height / 150)
    panel = figure.add_subplot()
    panel.imshow(grid, interpolation="none")
    panel.set_axis_off()
    return save(figure, folder, name)

"""Step log of both trainers: a line, metrics.jsonl, TensorBoard's scalars, histogram of u and grid of pairs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..data.images import encode_png
from ..data.pair_batch import PairBatch
from ..loss.partial_fc import QGPartialFC
from ..loss.terms import Measured
from ..utils import distributed
from ..utils.files import write_json
from .meters import IdleWatch, OrderWatch, RunningMeans, Throughput
from .metrics_jsonl import MetricsLog
from .pair_grid import pair_grid
from .tags import tag_of
from .trackers import Tracker

LOGGER = logging.getLogger(__name__)
SHOWN = {  # a term's label, and its decimals in the built-in loop's line and in the one beside a checkout's own
    "classification": ("Classification", None, 4),
    "contrastive": ("Contrastive", None, 4),
    "lq_share_view": ("LQ Views", 3, 4),
    "lq_share_pair": ("LQ Pairs", 3, 4),
    "norm_order": ("Norm Order", 3, 4),
    "quality_order": ("Quality Order", 3, 4),
    "teacher_cosine_original": ("Teacher Original", 3, 4),
    "teacher_cosine_degraded": ("Teacher Degraded", 3, 4),
    "data_stall": ("Data Stall", 3, 4),
}


def write_recipe(folder: Path, run_as_dict: Mapping[str, Any]) -> None:
    """Write recipe.json, the resolved configuration, into `folder`, which is made; the file of before or this one."""
    write_json(folder / "recipe.json", run_as_dict)


class StepLog:
    """Means of the steps' terms, written every `frequent` global steps and at the last one; for rank 0.

    Terms stay on their device until a line is due, so the steps in between cost no synchronisation.

    Args:
        folder: that metrics.jsonl is in; what it holds of steps after `start_step` is dropped.
        writer: TensorBoard's, closed by whoever made it; None for none.
        frequent: global steps from line to line.
        start_step: global steps that are done already.
        total_steps: global steps of the whole run. None beside a checkout's own log: loss, learning rate and speed are
            in its lines and scalars already, and not repeated in ours.
        quality: the source of quality (`config.qgface.quality`), for the warning that it is upside down.
        features_bias: `config.qgface.train.features_bias`, for what that warning advises.
        pair_grid_every: global steps from one grid of pairs to the next, 0 for none.
        steps_per_epoch: after the last one of each epoch there is a grid too, unless there are none; 0: there is not.
        trackers: services that get all scalars too; closed by whoever opened them.
    """

    def __init__(
        self,
        folder: str | Path,
        writer: SummaryWriter | None,
        frequent: int,
        *,
        start_step: int = 0,
        total_steps: int | None = None,
        quality: str = "norm",
        features_bias: bool = True,
        pair_grid_every: int = 0,
        steps_per_epoch: int = 0,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.trackers = trackers
        self.writer, self.frequent, self.total_steps = writer, frequent, total_steps
        self.pair_grid_every, self.steps_per_epoch = pair_grid_every, steps_per_epoch
        self.metrics = MetricsLog(Path(folder) / "metrics.jsonl", start_step)
        self.throughput = Throughput()
        self._means, self._idle = RunningMeans(), IdleWatch()
        self._watch = OrderWatch(quality, features_bias=features_bias)

    def close(self) -> None:
        """Close metrics.jsonl."""
        self.metrics.close()

    def state_dict(self) -> dict[str, Any]:
        """What the next line's means already hold, as plain values."""
        watches = {"watch": self._watch.state_dict(), "idle": self._idle.state_dict()}
        return {"means": self._means.state_dict(), **watches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, to the last bit."""
        self._means.load_state_dict(state["means"])
        self._watch.load_state_dict(state["watch"])
        if "idle" in state:  # not in the checkpoints of before
            self._idle.load_state_dict(state["idle"])

    def step(
        self,
        global_step: int,
        epoch: int,
        lr: float,
        criterion: QGPartialFC,
        batch: PairBatch,
        waited: float | None = None,
        measured: Measured | None = None,
    ) -> dict[str, float] | None:
        """Take one step's terms; what is written is their mean since the line before.

        Args:
            global_step: from 1.
            epoch: from 0.
            lr: the rate that the step was taken with.
            criterion: after the step; its `terms` are detached here.
            batch: this rank's pairs, on any device.
            waited: seconds that the loop has waited for this batch; their share of the time is `data_stall`.
            measured: of this step, where the criterion has taken another one since.

        Returns:
            The means when a line was due, else None.
        """
        due, measured = self.line_due(global_step), measured or Measured(criterion.terms, criterion.u_views)
        if self.throughput.started:
            self.throughput.add(len(batch) * distributed.world_size(), waited)
        elif due or self.total_steps is not None:
            self.throughput.start()  # the first step loads and compiles: its time does not count
        self._means.add(measured.terms)
        if batch.low is not None and self.writer is not None and self._grid_due(global_step):
            self._show_pairs(global_step, criterion, batch, measured)
        return self._write(global_step, epoch, lr, criterion, measured) if due else None

    def line_due(self, global_step: int) -> bool:
        """Whether a line is written after this step."""
        return global_step % self.frequent == 0 or global_step == self.total_steps

    def _grid_due(self, global_step: int) -> bool:
        every, epoch = self.pair_grid_every, self.steps_per_epoch
        return every > 0 and (global_step % every == 1 % every or (epoch > 0 and global_step % epoch == 0))

    def _write(
        self, global_step: int, epoch: int, lr: float, criterion: QGPartialFC, measured: Measured
    ) -> dict[str, float]:
        steps, means = self._means.take()
        if criterion.queue is not None:
            means["queue_drift"] = float(criterion.queue.drift(criterion.weight))
        rates = self.throughput.take()
        if rates.data_stall is not None:
            means["data_stall"] = rates.data_stall
        alone, speed = self.total_steps is not None, {"samples_per_second": rates.samples_per_second}
        if not alone and math.isnan(rates.samples_per_second):
            speed = {}

        LOGGER.info(self._line(global_step, epoch, lr, means, rates.samples_per_second, rates.seconds_per_step))
        if "quality_order" in means and (warning := self._watch.update(means["quality_order"], steps, epoch)):
            LOGGER.warning(warning)
        if _gates_pairs(criterion) and (warning := self._idle.update(means["lq_share_pair"], steps, epoch)):
            LOGGER.warning(warning)
        self.metrics.write({"kind": "train", "step": global_step, "epoch": epoch, "lr": lr, **speed, **means})
        scalars = {**means, **speed, "learning_rate": lr}
        for tracker in self.trackers:
            tracker.log({**{tag_of(name): value for name, value in scalars.items()}, "epoch": epoch}, global_step)
        if self.writer is not None:
            for name, value in scalars.items():
                if alone or name not in ("loss", "learning_rate"):
                    self.writer.add_scalar(tag_of(name), value, global_step)
            if measured.u_views is not None:
                _histogram(self.writer, measured.u_views, global_step)
            self.writer.flush()  # a checkout never closes its writer
        return means

    def _line(
        self, global_step: int, epoch: int, lr: float, means: Mapping[str, float], speed: float, seconds_per_step: float
    ) -> str:
        total, beside = self.total_steps, self.total_steps is None
        terms = []
        for name, (label, *decimals) in SHOWN.items():
            if name in means and decimals[beside] is not None:
                terms.append(f"{label}: {means[name]:.{decimals[beside]}f}")
        if total is None:
            return f"QGFace {'   '.join(terms)}   Global Step: {global_step}"
        return "   ".join(
            [
                f"Speed {speed:.2f} samples/sec",
                f"Loss {means.get('loss', math.nan):.4f}",
                f"LearningRate {lr:.6f}",
                f"Epoch: {epoch}",
                f"Global Step: {global_step}",
                f"Required: {time_left(seconds_per_step * (total - global_step))}",
                *terms,
            ]
        )

    def _show_pairs(self, global_step: int, criterion: QGPartialFC, batch: PairBatch, measured: Measured) -> None:
        assert measured.u_views is not None and batch.low is not None  # a step on pairs has been taken
        u_high, u_low = measured.u_views.cpu().chunk(2)
        b, contrasted = float(measured.terms["b"]), criterion.queue is not None
        grid = pair_grid(batch.high, batch.low, u_high.numpy(), u_low.numpy(), b, contrasted=contrasted)
        self.show(tag_of("pairs"), grid, global_step)

    def show(self, tag: str, image: np.ndarray, global_step: int) -> None:
        """Show an image, uint8 (height, width, 3) RGB, in TensorBoard, where there is a writer."""
        if self.writer is None:
            return
        events: Any = self.writer.file_writer
        height, width, _ = image.shape
        # SummaryWriter.add_image would need PIL for what is one PNG
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(image))
        events.add_summary(Summary(value=[Summary.Value(tag=tag, image=shown)]), global_step)


def _gates_pairs(criterion: QGPartialFC) -> bool:
    """Whether a gate decides which pairs are contrasted, and the loss has the contrast."""
    if criterion.queue is None:
        return False
    return criterion.config.contrastive_gate != "none" and criterion.config.contrastive_weight > 0


def _histogram(writer: SummaryWriter, u: Tensor, global_step: int) -> None:
    values = u.detach().float().flatten().cpu()
    if len(values := values[values.isfinite()]):
        writer.add_histogram(tag_of("u"), values, global_step)


def time_left(seconds: float) -> str:
    """How long something still takes, for people; arcface_torch's words from an hour on.

    Example:
        >>> time_left(7200.0), time_left(754.0), time_left(9.4), time_left(math.nan)
        ('2.0 hours', '12 min 34 s', '9 s', 'nan hours')
    """
    if not seconds < 3600:
        return f"{seconds / 3600:.1f} hours"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

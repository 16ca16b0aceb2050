"""What QGFace adds to the records of a host's own training loop: terms, histogram of u, pairs, warnings."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from ..config.run import Run
from ..data.images import encode_png
from ..data.pair_dataset import PairBatch
from ..loss.partial_fc import QGPartialFC
from ..training.meters import OrderWatch, RunningMeans
from ..training.metrics_jsonl import MetricsLog
from ..training.pair_grid import pair_grid
from ..utils import distributed

LOGGER = logging.getLogger(__name__)
_NAMED = {
    "classification": "Classification", "contrastive": "Contrastive", "lq_share_view": "LQ Views",
    "lq_share_pair": "LQ Pairs", "norm_order": "Norm Order", "quality_order": "Quality Order",
    "data_stall": "Data Stall",
}  # fmt: skip


class GuestLog:
    """Beside the host's log lines and scalars, on rank 0: recipe.json, metrics.jsonl, a line with the terms, and
    TensorBoard's scalars, histogram of u and grid of pairs.

    writer: the host's, or None for none; start_step: global steps that are done already.
    """

    def __init__(self, run: Run, writer: SummaryWriter | None, frequent: int, start_step: int) -> None:
        self.run, self.writer, self.frequent = run, writer, frequent
        folder = Path(run.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.json").write_text(json.dumps(run.as_dict(), indent=2) + "\n", encoding="utf-8")
        self._metrics = MetricsLog(folder / "metrics.jsonl", start_step)
        self._watch, self._means = OrderWatch(run.qgface.quality), RunningMeans()
        self._clock: float | None = None
        self._waited = 0.0  # since the clock was set

    def step(
        self, global_step: int, epoch: int, lr: float, criterion: QGPartialFC, batch: PairBatch, waited: float = 0.0
    ) -> None:
        """Take one step's terms; what is written, every `frequent` steps, is their mean since the line before.

        waited: seconds that the loop has waited for this batch."""
        self._waited += waited
        self._means.add(criterion.terms)
        every = self.run.train.pair_grid_every
        if every and batch.low is not None and self.writer is not None and global_step % every == 1 % every:
            self._show_pairs(global_step, criterion, batch)
        if global_step % self.frequent == 0:
            self._write(global_step, epoch, lr, criterion, len(batch))

    def _write(self, global_step: int, epoch: int, lr: float, criterion: QGPartialFC, batch_size: int) -> None:
        steps, means = self._means.take()
        if criterion.queue is not None:
            means["queue_drift"] = float(criterion.queue.drift(criterion.weight))
        now = time.perf_counter()
        if self._clock is not None:
            means["samples_per_second"] = steps * batch_size * distributed.world_size() / (now - self._clock)
            means["data_stall"] = self._waited / (now - self._clock)
        self._clock, self._waited = now, 0.0
        named = [f"{label}: {means[name]:.4f}" for name, label in _NAMED.items() if name in means]
        LOGGER.info("QGFace %s   Global Step: %d", "   ".join(named), global_step)
        if "quality_order" in means and (warning := self._watch.update(means["quality_order"], steps, epoch)):
            LOGGER.warning(warning)
        self._metrics.write({"kind": "train", "step": global_step, "epoch": epoch, "lr": lr, **means})
        if self.writer is None:
            return
        for name, value in means.items():
            if name != "loss":  # the host writes its own
                self.writer.add_scalar(name, value, global_step)
        values = criterion.u_views.detach().float().cpu()
        if len(values := values[values.isfinite()]):
            self.writer.add_histogram("u", values, global_step)
        self.writer.flush()  # the host never closes it

    def _show_pairs(self, global_step: int, criterion: QGPartialFC, batch: PairBatch) -> None:
        u_high, u_low = criterion.u_views.cpu().chunk(2)
        grid = pair_grid(batch.high, batch.low, u_high.numpy(), u_low.numpy(), float(criterion.terms["b"]))
        height, width, _ = grid.shape
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(grid))
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag="pairs", image=shown)]), global_step)

"""What a run leaves for people to look at: log, progress bar, TensorBoard, metrics.jsonl, recipe.json.

Only rank 0 records; on the others every method returns at once. Terms stay on their device until a line is due, so
the steps in between cost no synchronisation.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..data.images import encode_png
from ..utils.logs import logging_to
from .meters import OrderWatch, RunningMeans
from .metrics_jsonl import MetricsLog

LOGGER = logging.getLogger(__name__)
_NAMED = {
    "lq_share_view": "LQ Views",
    "lq_share_pair": "LQ Pairs",
    "norm_order": "Norm Order",
    "quality_order": "Quality Order",
    "data_stall": "Data Stall",
}


class RunRecorder:
    """Records a run in `folder`, as a context manager around the training loop.

    Parameters
    ----------
    folder : the run's output folder; made by rank 0
    rank : this process's; all but 0 record nothing
    run_as_dict : the resolved configuration, JSON-able, for recipe.json and the top of the log
    total_steps : global steps of the whole run
    frequent : a line, the scalars and the histogram every so many global steps, and at the last one
    progress : show the progress bar; None: when standard error is a terminal
    """

    def __init__(
        self,
        folder: str | Path,
        rank: int,
        run_as_dict: Mapping[str, Any],
        total_steps: int,
        *,
        frequent: int = 10,
        progress: bool | None = None,
    ) -> None:
        self.folder, self.rank, self.run_as_dict = Path(folder), rank, run_as_dict
        self.total_steps, self.frequent, self.progress = total_steps, frequent, progress
        self._watch = OrderWatch(run_as_dict.get("qgface", {}).get("quality", "norm"))
        self._means = RunningMeans()
        self._metrics: MetricsLog | None = None
        self._highest: dict[str, float] = {}
        self.verified: dict[str, dict[str, Any]] = {}  # by name of the set: the line of its last verification
        self._clock: float | None = None
        self._steps = self._samples = 0  # since the clock was set
        self._waited: float | None = None

    def __enter__(self) -> RunRecorder:
        if self.rank != 0:
            return self
        with ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(logging_to(self.folder / "training.log"))
            recipe = json.dumps(self.run_as_dict, indent=2) + "\n"
            (self.folder / "recipe.json").write_text(recipe, encoding="utf-8")
            for key, value in self.run_as_dict.items():
                LOGGER.info(": %s%s", key.ljust(25), value)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if self.rank != 0:
            return
        if error is not None:
            LOGGER.error("training stopped: %s: %s", type(error).__name__, error)
        self._closing.close()

    def pending(self) -> dict[str, Any] | None:
        """What the next line's means already hold, for a checkpoint; None on ranks that do not record."""
        return None if self.rank != 0 else {"means": self._means.state(), "watch": self._watch.state()}

    def resume(self, global_step: int, pending: Mapping[str, Any] | None = None) -> None:
        """Continue after `global_step`, with what `pending` gave then: what the files hold of later steps is dropped.
        Before the first `step`, once.

        Without this call the run starts at 0 and takes the place of what is in the folder; training.log is only ever
        appended to.
        """
        if self.rank == 0:
            self._begin(global_step)
            if pending is not None:
                self._means.load(pending["means"])
                self._watch.load(pending["watch"])

    def results(self) -> dict[str, dict[str, Any]]:
        """The last result of each verification set, by name; after `resume` also those of before."""
        added = ("kind", "step", "highest")
        return {n: {k: v for k, v in line.items() if k not in added} for n, line in self.verified.items()}

    def due(self, global_step: int) -> bool:
        """Whether `step` writes at this step: costly terms are needed then only. All ranks get the same answer."""
        return global_step % self.frequent == 0 or global_step == self.total_steps

    def _begin(self, start_step: int) -> None:
        hidden = None if self.progress is None else not self.progress
        bar = tqdm(total=self.total_steps, initial=start_step, unit="step", mininterval=0.5, disable=hidden)
        self._bar = self._closing.enter_context(bar)
        self._metrics = MetricsLog(self.folder / "metrics.jsonl", start_step)
        self._closing.callback(self._metrics.close)
        self._writer = SummaryWriter(self.folder / "tensorboard", purge_step=start_step + 1, flush_secs=30)
        self._closing.callback(self._writer.close)
        self.verified = {line["name"]: line for line in self._metrics.kept if line["kind"] == "verification"}
        self._highest = {name: line["highest"] for name, line in self.verified.items()}

    def step(
        self,
        global_step: int,
        epoch: int,
        lr: float,
        terms: Mapping[str, float | torch.Tensor],
        samples: int,
        histogram: torch.Tensor | None = None,
        waited: float | None = None,
    ) -> None:
        """Take one step's terms; what is written, every `frequent` steps, is their mean since the line before.

        terms : name -> number or 0-d tensor; `loss` among them. Detached here, copied to the host when a line is due
        samples : images of this step over all ranks
        histogram : the values u of this step, any shape; of the steps in between it is not looked at
        waited : seconds that the loop has waited for this step's data; their share of the time is `data_stall`
        """
        if self.rank != 0:
            return
        if self._metrics is None:
            self._begin(0)
        if self._clock is None:
            self._clock = time.perf_counter()  # speed counts from the end of the first step, which loads and compiles
        else:
            self._steps, self._samples = self._steps + 1, self._samples + samples
            self._waited = None if waited is None else (self._waited or 0.0) + waited
        self._means.add(terms)
        self._bar.update(global_step - self._bar.n)
        if self.due(global_step):
            self._write(global_step, epoch, lr, histogram)

    def _write(self, global_step: int, epoch: int, lr: float, histogram: torch.Tensor | None) -> None:
        steps, means = self._means.take()
        now = time.perf_counter()
        a_step = (now - self._clock) / self._steps if self._steps else math.nan
        speed = self._samples / (now - self._clock) if self._steps else math.nan
        if self._waited is not None:
            means["data_stall"] = self._waited / (now - self._clock)
        self._clock, self._steps, self._samples, self._waited = now, 0, 0, None

        loss = means.get("loss", math.nan)
        named = [f"   {label}: {means[name]:.3f}" for name, label in _NAMED.items() if name in means]
        LOGGER.info(
            f"Speed {speed:.2f} samples/sec   Loss {loss:.4f}   LearningRate {lr:.6f}   Epoch: {epoch}   "
            f"Global Step: {global_step}   Required: {a_step * (self.total_steps - global_step) / 3600:.1f} hours"
            + "".join(named)
        )
        if "quality_order" in means and (warning := self._watch.update(means["quality_order"], steps, epoch)):
            LOGGER.warning(warning)
        for name, value in {**means, "learning_rate": lr, "samples_per_second": speed}.items():
            self._writer.add_scalar(name, value, global_step)
        if histogram is not None:
            values = histogram.detach().float().flatten().cpu()
            if len(values := values[values.isfinite()]):
                self._writer.add_histogram("u", values, global_step)
        line = {"kind": "train", "step": global_step, "epoch": epoch, "lr": lr, "samples_per_second": speed, **means}
        self._metrics.write(line)
        shown = {"loss": f"{loss:.4f}", "LQ": f"{means.get('lq_share_view', math.nan):.1%}"}
        self._bar.set_postfix(shown, refresh=False)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in here (verification, checkpoints) does not count in the speed of training."""
        start = time.perf_counter()
        yield
        if self._clock is not None:
            self._clock += time.perf_counter() - start

    def verification(self, name: str, result: Mapping[str, Any], global_step: int) -> None:
        """Record a verification set's `accuracy` and `std` (of flip fusion, fractions) and `xnorm`.

        metrics.jsonl gets all of `result`, which is JSON-able.
        """
        if self.rank != 0:
            return
        if self._metrics is None:
            self._begin(0)
        accuracy = float(result["accuracy"])
        self._highest[name] = max(accuracy, self._highest.get(name, 0.0))
        LOGGER.info("[%s][%d]XNorm: %f", name, global_step, result["xnorm"])
        LOGGER.info("[%s][%d]Accuracy-Flip: %1.5f+-%1.5f", name, global_step, accuracy, result["std"])
        LOGGER.info("[%s][%d]Accuracy-Highest: %1.5f", name, global_step, self._highest[name])
        self._writer.add_scalar(name, accuracy, global_step)
        line = {"kind": "verification", "step": global_step, **result, "name": name, "highest": self._highest[name]}
        self._metrics.write(line)
        self.verified[name] = line

    def images(self, tag: str, image: np.ndarray, global_step: int) -> None:
        """Show uint8 (height, width, 3) RGB in TensorBoard."""
        if self.rank != 0:
            return
        if self._metrics is None:
            self._begin(0)
        height, width, _ = image.shape
        # SummaryWriter.add_image would need PIL for what is one PNG
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(image))
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=shown)]), global_step)

"""Recorder of a run of the built-in loop: what is left for people to look at.

Only rank 0 records; on the others every method returns at once.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..data.pair_batch import PairBatch
from ..loss.partial_fc import QGPartialFC
from ..loss.terms import Measured
from ..utils.errors import Stopped, is_said
from ..utils.logs import FILE_ONLY, EarlyLog, logging_to
from .event_files import make_room
from .metrics_jsonl import is_verification
from .step_log import StepLog, write_recipe
from .tags import verification_tag
from .trackers import Tracker

LOGGER = logging.getLogger(__name__)
LOG = "training.log"


class RunRecorder:
    """Records a run in `folder`: `StepLog`, and with it progress bar, training.log, recipe.json and verification.

    A context manager around the training loop. Until `resume` or `start`, only training.log is written to.

    Args:
        folder: the run's output folder; made by rank 0.
        rank: this process's; all but 0 record nothing.
        run_as_dict: the resolved configuration, JSON-able, for recipe.json and the top of the log.
        total_steps: global steps of the whole run.
        frequent: a line, the scalars and the histogram every so many global steps, and at the last one.
        quality: the source of quality (`config.qgface.quality`).
        features_bias: `config.qgface.train.features_bias`.
        pair_grid_every: global steps from one grid of pairs to the next, 0 for none.
        steps_per_epoch: after the last one of each epoch there is a grid too, unless there are none.
        progress: show the progress bar; None: when standard error is a terminal.
        early: what has listened to the log so far; training.log begins with its lines.
        trackers: opens further services that get the numbers, given the global steps that are done; None for none.

    Attributes:
        verified: name of a verification set -> the line of its last verification.
        history: the lines of all verifications so far.
    """

    def __init__(
        self,
        folder: str | Path,
        rank: int,
        run_as_dict: Mapping[str, Any],
        total_steps: int,
        *,
        frequent: int = 10,
        quality: str = "norm",
        features_bias: bool = True,
        pair_grid_every: int = 0,
        steps_per_epoch: int = 0,
        progress: bool | None = None,
        early: EarlyLog | None = None,
        trackers: Callable[[int], Sequence[Tracker]] | None = None,
    ) -> None:
        self.folder, self.rank, self.run_as_dict, self.early = Path(folder), rank, run_as_dict, early
        self.total_steps, self.progress = total_steps, progress
        self._options: dict[str, Any] = {
            "frequent": frequent,
            "quality": quality,
            "features_bias": features_bias,
            "pair_grid_every": pair_grid_every,
            "steps_per_epoch": steps_per_epoch,
        }
        self._log: StepLog | None = None
        self._open_trackers = trackers
        self._trackers: Sequence[Tracker] = ()
        self._highest: dict[str, float] = {}
        self.verified: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []

    def __enter__(self) -> RunRecorder:
        if self.rank != 0:
            return self
        with ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._made_log = not os.path.lexists(self.folder / LOG)
            stack.enter_context(logging_to(self.folder / LOG, self.early))
            for key, value in self.run_as_dict.items():
                LOGGER.info(": %s%s", key.ljust(25), value, extra={FILE_ONLY: True})
            self._closing = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if self.rank != 0:
            return
        if error is not None and not is_said(error):
            said = {FILE_ONLY: True}  # whoever catches the error says it on the console
            LOGGER.error("training stopped: %s: %s", type(error).__name__, error, extra=said)
        try:
            for tracker in self._trackers:
                tracker.close(error)
        finally:
            self._closing.close()
        if isinstance(error, Stopped) and self._log is None and self._made_log:  # no run has begun in the folder
            (self.folder / LOG).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any] | None:
        """What the next line's means already hold, for a checkpoint; None on ranks that do not record."""
        return None if self.rank != 0 else self._started().state_dict()

    def resume(self, global_step: int, state: Mapping[str, Any] | None = None) -> None:
        """Continue after `global_step`, with `state` of then: what the files hold of later steps is dropped.

        Called once, before the first `step`. Without this call the run starts at 0 and replaces what is in the
        folder; training.log is only ever appended to.
        """
        if self.rank == 0:
            self._begin(global_step)
            if state is not None:
                self._started().load_state_dict(state)

    def start(self) -> None:
        """Write recipe.json and open the other files, if `resume` has not: nothing is left that could be refused."""
        if self.rank == 0:
            self._started()

    def results(self) -> dict[str, dict[str, Any]]:
        """The last result of each verification set, by name; after `resume` also those of before."""
        added = ("kind", "step", "highest")
        return {n: {k: v for k, v in line.items() if k not in added} for n, line in self.verified.items()}

    def _begin(self, start_step: int) -> StepLog:
        write_recipe(self.folder, self.run_as_dict)
        hidden = None if self.progress is None else not self.progress
        bar = tqdm(total=self.total_steps, initial=start_step, unit="step", mininterval=0.5, disable=hidden)
        self._bar = self._closing.enter_context(bar)
        self._writer = self._tensorboard(start_step)
        if self._writer is not None:
            self._closing.callback(self._writer.close)
        if self._open_trackers is not None:
            self._trackers = self._open_trackers(start_step)
        self._log = StepLog(
            self.folder,
            self._writer,
            start_step=start_step,
            total_steps=self.total_steps,
            trackers=self._trackers,
            **self._options,
        )
        self._closing.callback(self._log.close)
        self.history = [line for line in self._log.metrics.kept if is_verification(line)]
        self.verified = {line["name"]: line for line in self.history}
        self._highest = {name: line["highest"] for name, line in self.verified.items()}
        return self._log

    def _tensorboard(self, start_step: int) -> SummaryWriter | None:
        try:
            make_room(self.folder / "tensorboard")
            return SummaryWriter(self.folder / "tensorboard", purge_step=start_step + 1, flush_secs=30)
        except UnicodeEncodeError:  # TensorBoard's own files
            LOGGER.warning("%s: no TensorBoard, which refuses folders whose names are no UTF-8", self.folder)
            return None

    def _started(self) -> StepLog:
        """The log of the steps; a run that has not resumed starts at 0."""
        return self._begin(0) if self._log is None else self._log

    def step(
        self,
        global_step: int,
        epoch: int,
        lr: float,
        criterion: QGPartialFC,
        batch: PairBatch,
        waited: float | None = None,
        measured: Measured | None = None,
    ) -> None:
        """Take one step's terms, as `StepLog.step` does."""
        if self.rank != 0:
            return
        log = self._started()
        self._bar.update(global_step - self._bar.n)
        means = log.step(global_step, epoch, lr, criterion, batch, waited, measured)
        if means is not None:
            loss, share = (means.get(name, math.nan) for name in ("loss", "lq_share_view"))
            self._bar.set_postfix({"loss": f"{loss:.4f}", "LQ": f"{share:.1%}"}, refresh=False)

    def line_due(self, global_step: int) -> bool:
        """Whether a line is written after this step."""
        return self.rank == 0 and self._started().line_due(global_step)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in here (verification, checkpoints) does not count in the speed of training."""
        with nullcontext() if self._log is None else self._log.throughput.paused():
            yield

    def saved(self, weights: Path) -> None:
        """The weights of the run are in a file, which services may want too."""
        for tracker in self._trackers:
            tracker.save(weights)

    def verification(self, name: str, result: Mapping[str, Any], global_step: int) -> None:
        """Record a verification set's `accuracy` and `std` (of flip fusion, fractions) and `xnorm`.

        metrics.jsonl gets all of `result`, which is JSON-able.
        """
        if self.rank != 0:
            return
        log = self._started()
        accuracy = float(result["accuracy"])
        self._highest[name] = max(accuracy, self._highest.get(name, 0.0))
        LOGGER.info("[%s][%d]XNorm: %f", name, global_step, result["xnorm"])
        LOGGER.info("[%s][%d]Accuracy-Flip: %1.5f+-%1.5f", name, global_step, accuracy, result["std"])
        LOGGER.info("[%s][%d]Accuracy-Highest: %1.5f", name, global_step, self._highest[name])
        if self._writer is not None:
            self._writer.add_scalar(verification_tag(name), accuracy, global_step)
        for tracker in self._trackers:
            tracker.log({verification_tag(name): accuracy}, global_step)
        line = {"kind": "verification", "step": global_step, **result, "name": name, "highest": self._highest[name]}
        log.metrics.write(line)
        self.verified[name] = line
        self.history.append(line)

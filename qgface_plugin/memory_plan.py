"""How much memory the criterion takes on a rank: what it keeps, and what a step needs besides.

The backbone is not counted. The figures are bytes of tensors; the allocator's own slack comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import ConfigError
from .feature_queue import BLOCK, slots_of_rank

MOMENTS = {"sgd": 1, "adamw": 2}  # tensors of the centres' size that the optimiser keeps
SCENARIOS = (  # classes, ranks, sample_rate, pairs a rank: the table in docs/ranks.md
    (8_631, 1, 1.0, 512),
    (360_232, 8, 1.0, 128),
    (2_000_000, 32, 0.3, 128),
    (29_000_000, 64, 0.1, 128),
)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the rank that has most classes.

    centres (n_local, d); gradient: as large, also where few centres were sampled; optimizer: its moments;
    queue: r (slots, d), a, labels and serial numbers; step: the most that a step needs beside all of these when no
    gate leaves a row out.
    """

    centres: int
    gradient: int
    optimizer: int
    queue: int
    step: int

    @property
    def state(self) -> int:
        """What stays from step to step, and what a rank's checkpoint holds but for the gradient."""
        return self.centres + self.gradient + self.optimizer + self.queue

    @property
    def total(self) -> int:
        """State and step."""
        return self.state + self.step


def plan_memory(
    classes: int,
    ranks: int = 1,
    dim: int = 512,
    *,
    queue: str = "proxy",
    queue_size: int | None = None,
    sample_rate: float = 1.0,
    rows: int = 0,
    optimizer: str = "sgd",
    dtype: torch.dtype = torch.float32,
) -> MemoryPlan:
    """The memory of QGPartialFC on one of `ranks` ranks.

    classes n; dim d; queue, queue_size, sample_rate: as QGPartialFC has them; rows: views in the GLOBAL batch;
    optimizer: "sgd" (with momentum) or "adamw". The queue is counted as it starts, with 5/4 of its even share of
    slots; it grows, to Q at most, where a rank's classes have more entries than that.
    Raises ConfigError on a number out of range or an optimiser that is not known.
    """
    if not (1 <= ranks <= classes and dim >= 1 and rows >= 0 and 0 < sample_rate <= 1):
        raise ConfigError(
            f"classes={classes}, ranks={ranks}, dim={dim}, rows={rows}, sample_rate={sample_rate}: expected "
            "1 <= ranks <= classes, dim >= 1, rows >= 0 and sample_rate in (0, 1]"
        )
    if optimizer not in MOMENTS:
        raise ConfigError(f"optimizer is {optimizer!r}: it must be one of {', '.join(MOMENTS)}")
    size, local = dtype.itemsize, -(-classes // ranks)
    centres = local * dim * size
    slots = {"none": 0, "batch": rows}.get(queue, slots_of_rank(queue_size or classes, ranks))
    kept = slots * (dim * size + size + 8 + 8)  # r, a, label, serial number
    step = _step(local, dim, size, rows, min(BLOCK, round(sample_rate * slots)), sample_rate)
    return MemoryPlan(centres, centres, MOMENTS[optimizer] * centres, kept, step)


def _step(local: int, dim: int, size: int, rows: int, block: int, sample_rate: float) -> int:
    """The highest of a step's phases, without the gradient (which the first ones do not have yet).

    block: entries scored at a time, by rows / 2 queries; copy: of the sampled centres, with sample_rate < 1 only.
    """
    competing = round(sample_rate * local) * dim * size
    copy = competing if sample_rate < 1.0 else 0
    logits = rows * round(sample_rate * local) * size
    batch = rows * dim * size  # embeddings as they are, normalised, gathered by the gate, and gradients of these
    scoring = block * max(4 * dim, dim + 3 * rows // 4) * size  # refreshing a block; its logits and masks
    phases = (
        copy + competing + logits + scoring + 8 * batch,
        copy + competing + 3 * logits + 8 * batch,  # the softmax's backward pass
        copy + 5 * competing + 4 * batch,  # that of the centres' normalisation
        local * dim * size + copy + 4 * batch,  # the gradient of the sampled centres becomes that of all
    )
    return max(phases) - local * dim * size


def memory_table() -> str:
    """Markdown: SCENARIOS with d = 512, SGD, float32, Q = n; GiB a rank."""
    lines = [
        "| classes | GPUs | sample_rate | pairs a GPU | centres | gradient | momentum | queue | kept | step, at most |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for classes, ranks, rate, pairs in SCENARIOS:
        plan = plan_memory(classes, ranks, sample_rate=rate, rows=2 * pairs * ranks)
        parts = (plan.centres, plan.gradient, plan.optimizer, plan.queue, plan.state, plan.step)
        cells = [f"{classes:,}", str(ranks), str(rate), str(pairs), *(f"{part / 2**30:.3f}" for part in parts)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

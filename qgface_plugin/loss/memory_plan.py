"""Memory that the criterion takes on each rank: what it keeps, and what a step needs besides.

The backbone is not counted. The figures are bytes of tensors; the allocator's own slack comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..utils.errors import ConfigError
from .class_softmax import KEPT, classes_at_a_time
from .feature_queue import entries_at_a_time, slots_of_rank

MOMENTS = {"sgd": 1, "adamw": 2}  # tensors of the centres' size that the optimiser keeps
SCENARIOS = (  # classes, ranks, sample_rate, pairs per rank: the table in docs/ranks.md
    (8_631, 1, 1.0, 512),
    (360_232, 8, 1.0, 128),
    (2_000_000, 8, 1.0, 512),
    (2_000_000, 32, 0.3, 128),
    (29_000_000, 64, 0.1, 128),
)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the rank that has most classes.

    Attributes:
        centres: (n_local, d).
        gradient: as large, also where few centres were sampled.
        optimizer: its moments.
        queue: r (slots, d), a, labels and serial numbers.
        step: the most that a step needs beside all of these when no gate leaves a row out.
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
    cuda: bool = True,
    kept_logits: int | None = None,
) -> MemoryPlan:
    """The memory of QGPartialFC on one of `ranks` ranks.

    The queue is counted as it starts, with 5/4 of its even share of slots; it grows, to Q at most, where a rank's
    classes have more entries than that.

    Args:
        classes: n over all ranks.
        ranks: number of ranks.
        dim: d.
        queue: kind, as QGPartialFC has it.
        queue_size: Q; None: n.
        sample_rate: share of the centres that compete in a step, in [0, 1]; those of the batch always do.
        rows: views in the GLOBAL batch.
        optimizer: "sgd" (with momentum) or "adamw".
        dtype: of centres, queue and logits.
        cuda: chunks and blocks have the size for a GPU.
        kept_logits: that are kept for the backward pass at most; None: class_softmax.KEPT.

    Raises:
        ConfigError: a number out of range or an optimiser that is not known.

    Example:
        >>> plan = plan_memory(classes=1000, dim=4, rows=8)
        >>> plan.centres, plan.queue  # 1000 x 4 float32; as many, and a, label and serial number of each
        (16000, 36000)
    """
    if not (1 <= ranks <= classes and dim >= 1 and rows >= 0 and 0 <= sample_rate <= 1):
        raise ConfigError(
            f"classes={classes}, ranks={ranks}, dim={dim}, rows={rows}, sample_rate={sample_rate}: expected "
            "1 <= ranks <= classes, dim >= 1, rows >= 0 and sample_rate in [0, 1]"
        )
    if optimizer not in MOMENTS:
        raise ConfigError(f"optimizer is {optimizer!r}: it must be one of {', '.join(MOMENTS)}")
    size, local = dtype.itemsize, -(-classes // ranks)
    centres = local * dim * size
    slots = {"none": 0, "batch": rows}.get(queue, slots_of_rank(queue_size or classes, ranks))
    kept = slots * (dim * size + size + 8 + 8)  # r, a, label, serial number
    positives = min(local, rows // 2)  # all classes of the batch on one rank, at most
    competing = max(round(sample_rate * local), positives)
    entries = min(slots, rows + slots * positives // local)  # of these classes: the batch's own rows, and older ones
    wanted = slots if cuda else max(round(sample_rate * slots), entries)
    chunk, block = min(competing, classes_at_a_time(rows, cuda)), min(wanted, entries_at_a_time(cuda))
    # which entries are alive, and where those that compete are; a GPU keeps masks alone
    selection = -(-(2 * slots if cuda else slots + 8 * wanted) // size)
    scoring = selection + block * (2 * dim + 5 * rows // 8)  # by rows / 2 queries
    room = KEPT if kept_logits is None else kept_logits
    step = _step(local * dim, competing, chunk, dim, rows, scoring, sample_rate < 1.0, room) * size
    return MemoryPlan(centres, centres, MOMENTS[optimizer] * centres, kept, step)


def _step(
    gradient: int, competing: int, chunk: int, dim: int, rows: int, scoring: int, sampled: bool, kept: int
) -> int:
    """Numbers in the highest of a step's phases, without the gradient (which the first ones do not have yet).

    chunk: classes at a time; scoring: what the contrast needs.
    """
    batch = rows * dim  # embeddings as they are, normalised, gathered by the gate, scaled, and gradients of these
    logits = rows * chunk
    every = rows * competing
    matrix = (every if every <= kept else kept // logits * logits) + competing + rows * -(-competing // max(1, chunk))
    again = 0 if every <= kept else logits  # a chunk that is not kept
    phases = (
        matrix + again + chunk * dim * (1 if sampled else 0) + 4 * batch,
        matrix + scoring + 6 * batch,
        matrix + again + gradient + chunk * dim * (3 if sampled else 1) + 6 * batch,
    )
    return max(phases) - gradient


def plain_step(
    classes: int, ranks: int, dim: int, rows: int, *, sample_rate: float = 1.0, dtype: torch.dtype = torch.float32
) -> int:
    """Bytes that a step of partial FC over whole matrices needs at least beside centres, gradient and moments: cosines,
    probabilities and their gradient (rows, n_local each), and normalised centres. Rows of the GLOBAL batch."""
    local = -(-classes // ranks)
    competing = max(round(sample_rate * local), min(local, rows // 2))
    return competing * (3 * rows + dim * (1 if sample_rate >= 1.0 else 2)) * dtype.itemsize


def memory_table() -> str:
    """Markdown: SCENARIOS with d = 512, SGD, float32, Q = n; GiB per rank."""
    lines = [
        "| classes | GPUs | sample_rate | pairs a GPU | centres | gradient | momentum | queue | kept | step, at most "
        "| plain step, at least |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for classes, ranks, rate, pairs in SCENARIOS:
        plan = plan_memory(classes, ranks, sample_rate=rate, rows=2 * pairs * ranks)
        plain = plain_step(classes, ranks, 512, 2 * pairs * ranks, sample_rate=rate)
        parts = (plan.centres, plan.gradient, plan.optimizer, plan.queue, plan.state, plan.step, plain)
        cells = [f"{classes:,}", str(ranks), str(rate), str(pairs), *(f"{part / 2**30:.3f}" for part in parts)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

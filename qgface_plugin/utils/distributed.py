"""Collectives, all of the project's. Without a process group, or alone in one, every function is the identity.

Gradient convention (arcface_torch's partial FC): every rank computes the same scalar loss; a rank's backward pass holds
the part that its own class centres contribute. `gather_views` therefore sums gradients over the ranks and multiplies
by the world size, which DistributedDataParallel's averaging divides by again. Shares that a rank adds to a sum
(`finish_softmax`) pass the gradient through unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from .errors import Stopped
from .fellow_ranks import Failure, FellowRanks, Watch, explained_end
from .rendezvous import int_from, meet
from .torch_before_2_8 import PrefixStore, reduce_scatter

Result = TypeVar("Result")
_fellows: FellowRanks | None = None  # of `fellow_ranks`


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def shard(count: int) -> tuple[int, int]:
    """(start, length) of this rank's share of `count` classes: contiguous, the first ranks take the remainder."""
    return shard_of(count, rank(), world_size())


def shard_of(count: int, rank: int, ranks: int) -> tuple[int, int]:
    """`shard` as rank `rank` of `ranks` has it."""
    base, extra = divmod(count, ranks)
    return base * rank + min(rank, extra), base + (rank < extra)


def _all_gather(local: Tensor) -> Tensor:
    out = local.new_empty((world_size(), *local.shape))
    distributed.all_gather(list(out.unbind(0)), local.contiguous())
    return out


def _views_first(stacked: Tensor, views: int) -> Tensor:
    """(ranks, views * B, ...) -> (views * ranks * B, ...): originals of all ranks, then the degraded views."""
    ranks, rows, *rest = stacked.shape
    return stacked.reshape(ranks, views, rows // views, *rest).transpose(0, 1).reshape(ranks * rows, *rest)


class _GatherViews(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor, views: int) -> Tensor:
        ctx.views = views
        return _views_first(_all_gather(local), views)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        views, ranks = ctx.views, world_size()
        by_rank = gradient.reshape(views, ranks, -1, *gradient.shape[1:]).transpose(0, 1).flatten(1, 2).contiguous()
        own = torch.empty_like(by_rank[0])
        reduce_scatter(own, by_rank)
        return own * ranks, None


def gather_views(local: Tensor, views: int = 2) -> Tensor:
    """Rows of all ranks, [originals of rank 0, 1, ...; degraded of rank 0, 1, ...], differentiable.

    One all-gather; one reduce-scatter in the backward pass.

    Args:
        local: (views * B, ...) with the same B on every rank.
        views: 2 for pairs, 1 for single views.

    Returns:
        (views * ranks * B, ...).
    """
    return _GatherViews.apply(local, views) if world_size() > 1 else local


def own_rows(gathered: Tensor, views: int = 2) -> Tensor:
    """The inverse of `gather_views` for this rank: its (views * B, ...) rows of the gathered tensor."""
    if world_size() == 1:
        return gathered
    per_view = gathered.shape[0] // (views * world_size())
    return gathered.reshape(views, world_size(), per_view, *gathered.shape[1:])[:, rank()].flatten(0, 1)


class _FinishSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logsumexp: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        highest = logsumexp.clone()
        distributed.all_reduce(highest, distributed.ReduceOp.MAX)
        highest = highest.nan_to_num(nan=float("nan"), posinf=float("inf"), neginf=0.0)
        part = (logsumexp - highest).exp()
        sums = torch.stack([part, share])
        distributed.all_reduce(sums)
        total, shared = sums.unbind(0)
        ctx.save_for_backward((part / total).where(total > 0, 0.0))
        return highest + total.log(), shared.clone()

    @staticmethod
    def backward(ctx, grad_logsumexp: Tensor, grad_shared: Tensor) -> tuple[Tensor, Tensor]:
        (weight,) = ctx.saved_tensors
        return grad_logsumexp * weight, grad_shared


def finish_softmax(logsumexp: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Finish a softmax that is sharded over the ranks, with two scalars per row.

    Two all-reduces (maximum, sum); none in the backward pass.

    Args:
        logsumexp: (R,) over this rank's columns, -inf when it has none.
        share: (R,) what this rank adds to a row's target logit: the logit on the rank that owns the class, 0 elsewhere.

    Returns:
        Both over all ranks, (R,) each.
    """
    return _FinishSoftmax.apply(logsumexp, share) if world_size() > 1 else (logsumexp, share)


def total(local: Tensor) -> Tensor:
    """The sum over the ranks, without gradient. One all-reduce."""
    return _reduced(local, distributed.ReduceOp.SUM)


def maximum(local: Tensor) -> Tensor:
    """The largest over the ranks, entry by entry, without gradient. One all-reduce."""
    return _reduced(local, distributed.ReduceOp.MAX)


def minimum(local: Tensor) -> Tensor:
    """The smallest over the ranks, entry by entry, without gradient. One all-reduce."""
    return _reduced(local, distributed.ReduceOp.MIN)


def _reduced(local: Tensor, how: distributed.ReduceOp.RedOpType) -> Tensor:
    if world_size() == 1:
        return local.detach()
    out = local.detach().clone()
    distributed.all_reduce(out, how)
    return out


def everywhere(condition: bool, device: torch.device | str = "cpu") -> bool:
    """True when `condition` holds on every rank. One all-reduce of one number."""
    return all_hold([condition], device)[0]


def all_hold(conditions: Sequence[bool], device: torch.device | str = "cpu") -> list[bool]:
    """Which of the conditions hold on every rank. One all-reduce of as many numbers."""
    if world_size() == 1:
        return list(conditions)
    flags = torch.tensor([float(condition) for condition in conditions], device=device)
    distributed.all_reduce(flags, distributed.ReduceOp.MIN)
    return [bool(flag) for flag in flags.tolist()]


def gather_objects(value: Any) -> list[Any]:
    """Every rank's small plain value, by rank; for what is said once per run, never in a step."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        distributed.barrier()


def patient_barrier() -> None:
    """Wait until every rank is here, without a time limit: for what may take one rank hours, such as reading data.

    Raises:
        ConfigError, DataError, CheckpointError, TrainingError: another rank has failed meanwhile.
    """
    if _fellows is not None:
        _fellows.wait()
    else:
        barrier()


def ask_when(doubtful: Callable[[], bool]) -> None:
    """While this rank waits for the others, ask whether they are alive once `doubtful()` holds."""
    if _fellows is not None:
        _fellows.doubtful = doubtful


def leave(stopped: Stopped) -> Exception:
    """What a rank raises that was asked to leave while the others may not have been; see `FellowRanks.leave`."""
    return stopped if _fellows is None else _fellows.leave(stopped)


def on_rank_zero(work: Callable[[], Result]) -> Result | None:
    """Do `work` on rank 0, while the others wait without a time limit.

    Returns:
        What it returns on rank 0, None on the others.

    Raises:
        Exception: On rank 0 what `work` raises; on the others the same in the package's own error.
    """
    if _fellows is not None:
        result = work() if _fellows.rank == 0 else None  # an error reaches the others by `reasons`
        _fellows.wait(for_all=False)
        return result
    result, problem = None, None
    if rank() == 0:
        try:
            result = work()
        except Exception as error:
            if world_size() == 1:
                raise
            problem = error
    failures = gather_objects(None if problem is None else Failure.of(problem, 0))
    if problem is not None:
        raise problem
    if failures[0] is not None:
        raise failures[0].as_error()
    return result


def raise_first(problem: Exception | None, kind: type[Exception]) -> None:
    """Raise on all ranks what the first of them could not do, if there is one; called by all of them.

    Args:
        problem: of this rank, None for none.
        kind: of the error that is raised; it names the rank where there are several.
    """
    failures = gather_objects(None if problem is None else Failure.of(problem, rank()))
    first = next((failure for failure in failures if failure is not None), None)
    if first is None:
        return
    error = kind(first.message if world_size() == 1 else first.named())
    raise error if _fellows is None else _fellows.say(error) from problem


@contextmanager
def reasons() -> Iterator[None]:
    """An error in the block is told to the other ranks; one that follows from another rank's failure becomes that."""
    with nullcontext() if _fellows is None else _fellows.reasons():
        yield


@contextmanager
def fellow_ranks(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Meet the other ranks that a launcher's environment describes; for the block they hear of each other's failures.

    No process group is needed yet. Under torchrun this process ends when its launcher is gone. Within a block of its
    own, and without a launcher, nothing happens.

    Raises:
        ConfigError: the environment does not say where the ranks meet.
    """
    global _fellows
    launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in environ else None
    ranks = int_from("WORLD_SIZE", environ, 1)
    if _fellows is not None or distributed.is_initialized() or ranks == 1 and launcher is None:
        yield
        return
    if ranks > 1:
        _fellows = FellowRanks(meet(environ), int_from("RANK", environ), ranks)
    watch = Watch(_fellows, launcher)
    try:
        with nullcontext() if _fellows is None else explained_end(_fellows), reasons():
            yield
    finally:
        watch.stop()
        if _fellows is not None:
            _fellows.part()
        _fellows = None


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """The process group that torchrun's environment describes (NCCL on CUDA, else gloo); none for a single process."""
    if int_from("WORLD_SIZE", os.environ, 1) == 1 or distributed.is_initialized():
        yield
        return
    with fellow_ranks():
        assert _fellows is not None
        backend, store = "nccl" if device.type == "cuda" else "gloo", PrefixStore("group", _fellows.store)
        distributed.init_process_group(backend, store=store, rank=_fellows.rank, world_size=_fellows.ranks)
        done = False
        try:
            with reasons():
                yield
            done = True
        finally:  # after an error NCCL would wait for the ranks that have not failed; the process ends in any case
            if done or backend == "gloo":
                distributed.destroy_process_group()

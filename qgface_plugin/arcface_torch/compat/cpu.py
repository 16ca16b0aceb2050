"""CPU and gloo for arcface_torch's training loop, which is written for CUDA and NCCL."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import distributed

from .repair import Repair, around_import, is_around_import, uses
from .torch_before_2_5 import register_stream

SAMPLER = "utils.utils_distributed_sampler"


def repair(checkout: Path) -> Repair:
    """For machines where `torch.cuda.is_available()` is False; with a GPU nothing is touched.

    arcface_torch starts NCCL, calls `.cuda()` on everything, moves batches to the device `local_rank` on a stream of
    its own, and broadcasts a seed on the device "cuda". Each of these means the CPU and gloo here; arithmetic is
    float32 whatever `config.fp16` says. DDP's float16 gradient compression works over gloo and stays.
    """

    def needed() -> bool:
        return not torch.cuda.is_available() and uses(checkout, "cuda|nccl") and not (_replaced() and hooked())

    def hooked() -> bool:
        seeds = uses(checkout, "def sync_random_seed", "utils/utils_distributed_sampler.py")
        return not seeds or is_around_import(checkout, SAMPLER, _seed_on_cpu)

    def apply() -> None:
        if not _replaced():
            register_stream(HostStream)
            for owner, name, make in REPLACEMENTS:
                original = getattr(owner, name)
                setattr(owner, name, _named_like(original, make(original)))
        if not hooked():
            around_import(checkout, SAMPLER, _seed_on_cpu)
        silence()

    return Repair(
        "CPU in the place of CUDA",
        "this machine has no CUDA device: gloo takes the place of NCCL, .cuda() does nothing, arithmetic is float32",
        needed,
        apply,
    )


def silence() -> None:
    """Silence what torch says where there is no GPU: that memory is not pinned, and that mixed precision is off."""
    for message in ("'pin_memory' argument is set as true but", ".*CUDA is not available.*[Dd]isabl"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)


def _replaced() -> bool:
    return hasattr(torch.Tensor.cuda, "replaces")


class HostStream:
    """A CUDA stream where there is one queue of work only: waiting for it is nothing to do."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def wait_stream(self, stream: object) -> None:
        """Work on a CPU is done when the call that asks for it returns."""

    def synchronize(self) -> None:
        """As `wait_stream`."""


def _named_like(original: Any, replacement: Any) -> Any:
    if isinstance(replacement, type):
        return replacement
    functools.update_wrapper(replacement, original, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    replacement.replaces = original
    return replacement


def _is_cuda(device: object) -> bool:
    if isinstance(device, torch.device):
        return device.type == "cuda"
    return (isinstance(device, int) and not isinstance(device, bool)) or str(device).startswith("cuda")


def _tensor_to(original: Callable) -> Callable:
    def to(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if args and _is_cuda(args[0]):
            args = ("cpu", *args[1:])
        if _is_cuda(options.get("device")):
            options["device"] = "cpu"
        return original(self, *args, **options)

    return to


def _ddp_init(original: Callable) -> Callable:
    def __init__(self: Any, module: torch.nn.Module, device_ids: Any = None, *args: Any, **options: Any) -> None:
        original(self, module, None, *args, **options)

    return __init__


def _init_process_group(original: Callable) -> Callable:
    def init_process_group(backend: str | None = None, *args: Any, **options: Any) -> None:
        original("gloo" if backend == "nccl" else backend, *args, **options)

    return init_process_group


def _load(original: Callable) -> Callable:
    def load(f: Any, map_location: Any = "cpu", *args: Any, **options: Any) -> Any:
        return original(f, map_location, *args, **options)

    return load


def _identity(_: object) -> Callable:
    return lambda self, *args, **options: self


def _nothing(_: object) -> Callable:
    return lambda *args, **options: None


REPLACEMENTS: tuple[tuple[Any, str, Callable], ...] = (
    (torch.Tensor, "cuda", _identity),
    (torch.Tensor, "to", _tensor_to),
    (torch.nn.Module, "cuda", _identity),
    (torch.nn.parallel.DistributedDataParallel, "__init__", _ddp_init),
    (distributed, "init_process_group", _init_process_group),
    (torch, "load", _load),
    (torch.cuda, "set_device", _nothing),
    (torch.cuda, "Stream", lambda original: HostStream),
    (torch.cuda, "stream", lambda original: lambda stream: nullcontext(stream)),
    (torch.cuda, "current_stream", lambda original: lambda device=None: HostStream()),
)


@contextmanager
def _seed_on_cpu(module: ModuleType) -> Iterator[None]:
    yield
    synchronise = module.sync_random_seed
    synchronise.__defaults__ = tuple("cpu" if value == "cuda" else value for value in synchronise.__defaults__)

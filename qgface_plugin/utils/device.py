"""Device and precision of a run, its seeds, and the memory of a CPU."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from .errors import ConfigError

LOGGER = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str, setting: str = "config.qgface.train.device") -> torch.device:
    """The device that a setting names.

    Args:
        name: "auto" (this rank's GPU where there is one, else the CPU), "cpu", "cuda" (this rank's) or "cuda:N".
        setting: the setting, for messages.

    Raises:
        ConfigError: A GPU is named and there is none, or the name is no device's.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{setting} is {name!r}, which is no device: use 'auto', 'cpu', 'cuda', 'cuda:1'") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"{setting} is {name!r}, but torch sees no GPU: use 'auto' or 'cpu'")
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def pick_precision(precision: str, fp16: bool, device: torch.device) -> torch.dtype:
    """The type of the backbone's arithmetic.

    Args:
        precision: a key of DTYPES. float16 needs a GPU: a CPU takes float32 instead and says so in the log. bfloat16
            on a CPU without instructions for it is taken, with a warning.
        fp16: `config.fp16`, which makes float16 of float32.
        device: where the backbone runs.
    """
    dtype = torch.float16 if fp16 and precision == "float32" else DTYPES[precision]
    if dtype == torch.float16 and device.type != "cuda":
        LOGGER.warning("float16 needs a GPU: this run computes in float32 on %s", device)
        return torch.float32
    if dtype == torch.bfloat16 and device.type == "cpu" and not has_bfloat16():
        LOGGER.warning("this CPU has no instructions for bfloat16, so it is several times slower than float32 here")
    if dtype == torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        LOGGER.warning(
            "this GPU has no arithmetic for bfloat16 (Ampere and later have), so it is slower than float16 here"
        )
    return dtype


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AVX512-BF16, AMX, or Arm's BF16). Linux only; elsewhere False."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(facts.split())


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """The context that the backbone runs in."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def seed_everything(seed: int, rank: int) -> None:
    """Seed Python, NumPy and torch: every rank differently, so that sampled centres differ between shards."""
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)  # noqa: NPY002 - libraries may draw from the global generator
    torch.manual_seed(seed + rank)


# malloc.h: parameters of mallopt
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_pages() -> bool:
    """Tell glibc's allocator not to give large blocks back to the system after every use; True where it could.

    Activations are hundreds of megabytes that are allocated anew at every step; each time the system hands out zeroed
    pages, which took a sixth to a third of a MobileFaceNet step. The process then keeps its peak memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))

"""Device and precision of a run."""

from __future__ import annotations

import logging

import pytest
import torch

from qgface_plugin.utils import device
from qgface_plugin.utils.device import autocast, keep_freed_pages, pick_device, pick_precision, seed_everything
from qgface_plugin.utils.errors import ConfigError

CPU = torch.device("cpu")


def test_auto_is_the_gpu_or_the_cpu():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_named_gpu_that_is_not_there():
    with pytest.raises(ConfigError, match=r"device is 'cuda:1', but torch sees no GPU"):
        pick_device("cuda:1")


def test_float16_on_a_cpu_is_float32_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert pick_precision("float32", True, CPU) == torch.float32
    assert "float16 needs a GPU: this run computes in float32 on cpu" in caplog.text


@pytest.mark.parametrize(
    ("precision", "fp16", "where", "dtype"),
    [
        ("float32", False, "cpu", torch.float32),
        ("bfloat16", False, "cpu", torch.bfloat16),
        ("float32", True, "cuda", torch.float16),
        ("float16", False, "cuda", torch.float16),
    ],
)
def test_precision(precision, fp16, where, dtype):
    assert pick_precision(precision, fp16, torch.device(where)) == dtype


@pytest.mark.parametrize("flags, warned", [("fpu avx512_bf16 avx", False), ("fpu avx2", True), (None, True)])
def test_bfloat16_on_a_cpu_without_it_is_slow_and_says_so(flags, warned, monkeypatch, caplog):
    def read_text(path, **_):
        if flags is None:
            raise FileNotFoundError(path)
        return f"flags\t\t: {flags}\n"

    monkeypatch.setattr(device.Path, "read_text", read_text)
    assert device.has_bfloat16() is not warned
    with caplog.at_level(logging.WARNING):
        assert pick_precision("bfloat16", False, CPU) == torch.bfloat16
        pick_precision("float32", False, CPU)
    assert ("no instructions for bfloat16" in caplog.text) is warned and len(caplog.records) == warned


def test_autocast_takes_the_type():
    with autocast(CPU, torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_ranks_draw_differently():
    draws = []
    for seed, rank in ((5, 0), (5, 0), (5, 1)):
        seed_everything(seed, rank)
        draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_allocator_is_told_where_it_is_glibc():
    import platform

    assert keep_freed_pages() is (platform.libc_ver()[0] == "glibc")

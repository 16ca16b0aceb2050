"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_marker import gpus_wanted


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs, before torch is imported and from all processes that tests start, unless their tests are asked for."""
    if not gpus_wanted(config.getoption("markexpr")):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests for GPUs are skipped where none is seen."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU is seen: `make gpu` on a machine with one")


@pytest.fixture(scope="session")
def lfw() -> Path:
    """Folder of real faces in the layouts users have; skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "lfw"
    folder = Path(os.environ.get("QGFACE_TEST_DATA", default))
    if not (folder / "train" / "train.rec").exists():
        pytest.skip(f"no real faces at {folder}: set QGFACE_TEST_DATA to a folder with train/train.rec")
    return folder


@pytest.fixture
def hangups() -> Iterator[None]:
    """SIGHUP does what it does without nohup, which hands down that it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed reaches pytest's main process as UTF-8, names of files that are not UTF-8 too."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report

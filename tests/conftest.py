"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def lfw() -> Path:
    """Folder of real faces in the layouts users have; skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "lfw"
    folder = Path(os.environ.get("QGFACE_TEST_DATA", default))
    if not (folder / "train" / "train.rec").exists():
        pytest.skip(f"no real faces at {folder}: set QGFACE_TEST_DATA to a folder with train/train.rec")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed reaches pytest's main process as UTF-8, names of files that are not UTF-8 too."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report

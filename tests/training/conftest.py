"""Fixtures of the tests that train: a network and data small enough that a run takes a second."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import tiny_model, write_faces

from qgface_plugin.training import build


@pytest.fixture
def tiny_network(monkeypatch) -> None:
    """Every recipe trains the tiny network, whatever network it names."""
    monkeypatch.setattr(build, "get_model", tiny_model)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with noise faces in `data`."""
    write_faces(tmp_path / "data")
    return tmp_path

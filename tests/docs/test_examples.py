"""The examples in docstrings of the package: each gives what it shows."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from paths import ROOT

from qgface_plugin.utils.registry import DEGRADATION_STEPS, MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS


def prompts(path: Path) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return sum(line.lstrip().startswith(">>> ") for line in lines)


FILES = [path for path in sorted((ROOT / "qgface_plugin").rglob("*.py")) if prompts(path)]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(autouse=True)
def _forget(tmp_path, monkeypatch):
    """Examples run in a folder of their own; the names that they register are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    tables = (MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS, DEGRADATION_STEPS)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) for path in FILES])
def test_examples(path):
    module = importlib.import_module(module_name(path))
    failed, tried = doctest.testmod(module, report=False)
    assert failed == 0
    assert tried == prompts(path), "an example stands where doctest does not look for it"


def test_there_are_examples():
    assert FILES

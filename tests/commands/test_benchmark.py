"""qgface benchmark and its ijb, on a small set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from checkouts import ROOT

from qgface_plugin.commands import benchmark


def test_table() -> None:
    lines = benchmark.table({"a": 1.23456, "ratio": 2, "ours": {"seconds": 0.5, "deep": {"x": "y"}}})
    assert lines == ["a      1.235", "ratio  2", "ours", "  seconds  0.5", "  deep", "    x  y"]


def test_machine_facts() -> None:
    facts = benchmark.machine_facts()
    assert facts["cores"] >= 1 and facts["memory_bytes"] > 1e8 and facts["versions"]["numpy"] == np.__version__


def test_subcommands_are_files(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for path in (ROOT / "qgface_plugin" / "benchmarks").glob("[a-z]*.py"):
        assert re.search(rf"\n    {path.stem}\s", said)
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["nothing"])
    assert stopped.value.code == 2


def test_wrong_arguments(capsys: pytest.CaptureFixture) -> None:
    assert benchmark.main(["ijb", "--threads", "0"]) == 2
    assert "qgface benchmark: --threads and --repeat must be at least 1" in capsys.readouterr().err


def test_ijb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    given = ["ijb", "--scale", "0.01", "--threads", "1", "--repeat", "1", "--json", str(tmp_path / "b.json")]
    assert benchmark.main(given) == 0
    report = json.loads((tmp_path / "b.json").read_text())
    results = report["results"]
    assert results["largest difference to plain"] <= results["agree to"]
    assert results["plain / ours"] == pytest.approx(results["plain"]["seconds"] / results["ours"]["seconds"])
    assert results["ours"]["peak_bytes"] > 1e7 and report["machine"]["cores"] >= 1
    assert "plain / ours" in capsys.readouterr().out

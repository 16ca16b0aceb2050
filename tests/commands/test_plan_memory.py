"""qgface plan-memory as a user calls it."""

from __future__ import annotations

import json

import pytest

from qgface_plugin.commands.plan_memory import main
from qgface_plugin.loss.memory_plan import memory_table, plan_memory


def test_it_prints_and_writes_the_plan(tmp_path, capsys):
    path = tmp_path / "plan.json"
    assert main(["--classes", "2000000", "--ranks", "32", "--sample-rate", "0.3", "--json", str(path)]) == 0
    plan = plan_memory(2_000_000, 32, sample_rate=0.3, rows=2 * 128 * 32)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["queue"] == f"{plan.queue / 2**30:.3f} GiB" and lines["total"] == f"{plan.total / 2**30:.3f} GiB"
    saved = json.loads(path.read_text())
    assert saved["bytes"]["centres"] == plan.centres and saved["bytes"]["total"] == plan.total
    assert saved["settings"]["ranks"] == 32


def test_the_table(capsys):
    assert main(["--table"]) == 0 and capsys.readouterr().out == memory_table() + "\n"


def test_wrong_input(tmp_path, capsys):
    assert main(["--classes", "3", "--ranks", "4"]) == 2
    assert "qgface plan-memory: classes=3, ranks=4" in capsys.readouterr().err
    assert main(["--classes", "30", "--json", str(tmp_path / "no" / "plan.json")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([])

"""Help of every command: it reads well, imports no PyTorch, and is there in less than half a second."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
from paths import ROOT

from qgface_plugin.__main__ import MODULES

CODE = """
import sys
sys.argv = ["qgface", *{arguments!r}]
from qgface_plugin.__main__ import main
try:
    status = main()
except SystemExit as left:
    status = left.code
print(status, *(name for name in ("torch", "scipy", "matplotlib", "onnx") if name in sys.modules))
"""


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def shown(*arguments: str) -> list[str]:
    """Lines that a process of its own prints; the last: exit status, and what of the slow packages is imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(arguments=arguments)], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize("command", MODULES)
def test_help_of_a_command(command):
    """In processor time, so that it is the same on a busy machine; twice, as the first one may compile modules."""
    seconds = []
    while len(seconds) < 2 and min(seconds, default=1.0) >= 0.5:
        before = processor_seconds()
        lines = shown(command, "--help")
        seconds.append(processor_seconds() - before)
    assert lines[0].startswith(f"usage: qgface {command} ") and lines[-1] == "0"
    assert any(f"qgface {command} " in line or f"qgface_plugin {command} " in line for line in lines[1:]), "no example"
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--version",)])
def test_the_overview_imports_nothing_slow(arguments):
    assert shown(*arguments)[-1] == "0"

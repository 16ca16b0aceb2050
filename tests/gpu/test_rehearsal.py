"""The rehearsal: what runs on CUDA runs on pretended CUDA, mixes no devices, and waits where it is known to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent
REASON = None if shutil.which("g++") else "g++, which compiles the device guard of the rehearsal, is not installed"
if torch.version.cuda or torch.version.hip:
    REASON = "this torch is built for GPUs: the rehearsal pretends one to a build without"

pytestmark = [pytest.mark.long, pytest.mark.skipif(REASON is not None, reason=REASON or "")]


@pytest.mark.parametrize("what", sorted(path.stem.removeprefix("rehearse_") for path in FOLDER.glob("rehearse_*.py")))
def test_rehearsal(what, tmp_path):
    command = [sys.executable, FOLDER / f"rehearse_{what}.py", "--json", tmp_path / "found.json"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[1])}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=900)
    assert (tmp_path / "found.json").exists(), done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    bad = {name: f"{one['verdict']}: {one['note']}" for name, one in found.items() if one["verdict"] != "holds"}
    assert found and not bad, "\n".join(f"{name}: {what}" for name, what in bad.items())
    assert done.returncode == 0

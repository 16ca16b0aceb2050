"""Whole trainings as a user starts them: the accuracy below which something that nobody tests has broken.

The floors are well below what the recipes have reached (their headers say what), and well above what an encoder that
learns nothing reaches.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import RECIPES, ROOT

RECIPE = """
from qgface_plugin.config import load_config
config = load_config({recipe!r}, {name!r})
config.output = "out"
config.rec = {rec!r}
config.qgface.train.update(threads=1, device="cpu")
"""


def last_verification(folder: Path, name: str, rec: str, target: str) -> float:
    """Accuracy on `target` after the last epoch of the recipe `name`, trained in a process of its own."""
    (folder / "floor.py").write_text(RECIPE.format(recipe=str(RECIPES / "x.py"), name=name, rec=rec))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DATA_ROOT": "", "ARCFACE_TORCH": ""}
    command = [sys.executable, str(ROOT / "train_v2.py"), "floor.py"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    return [line["accuracy"] for line in lines if line["kind"] == "verification" and line["name"] == target][-1]


@pytest.mark.long
def test_quickstart_knows_persons_it_has_not_seen(tmp_path: Path) -> None:
    assert last_verification(tmp_path, "quickstart.py", str(tmp_path / "faces"), "procedural_dev") >= 0.75


@pytest.mark.long
def test_lfw_small_knows_real_faces(lfw: Path, tmp_path: Path) -> None:
    assert last_verification(tmp_path, "lfw_small.py", str(lfw / "train"), "lfw_dev") >= 0.80

"""The repairs on a real arcface_torch checkout, named by ARCFACE_TORCH; it is copied, never written to."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from tiny import IDENTITIES, IMAGES, write_faces

pytestmark = pytest.mark.arcface_torch

CONFIG = """
from easydict import EasyDict as edict

config = edict()
config.network = "mbf"
config.output = None
config.rec = {rec!r}
config.num_classes = {classes}
config.num_image = {images}
config.num_epoch = {epochs}
config.warmup_epoch = 0
config.batch_size = 8
config.lr = 0.02
config.verbose = {images} // 8
config.frequent = 1
config.num_workers = 1
config.save_all_states = True
config.resume = {resume}
config.val_targets = ["dev"]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    named = os.environ.get("ARCFACE_TORCH")
    if not named:
        pytest.skip("ARCFACE_TORCH names no checkout")
    ignore = shutil.ignore_patterns("__pycache__", "work_dirs", "docs", ".git")
    return Path(shutil.copytree(named, tmp_path / "checkout", ignore=ignore))


def sources(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.py")}


def train(checkout: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "qgface_plugin", "run", "train_v2.py", "configs/tiny"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "torch.cuda.amp" not in done.stderr
    return done.stdout


def test_arcface_trains_verifies_and_resumes(checkout: Path, tmp_path: Path) -> None:
    values = {"rec": str(write_faces(tmp_path / "faces")), "classes": IDENTITIES, "images": IDENTITIES * IMAGES}
    config = checkout / "configs" / "tiny.py"
    config.write_text(CONFIG.format(**values, epochs=1, resume=False))
    before = sources(checkout)
    said = train(checkout)
    assert sources(checkout) == before
    assert "repaired for arcface_torch" in said
    assert [int(step) for step in re.findall(r"Global Step: (\d+)", said)] == [2, 3, 4, 5, 6]
    assert all(0 < float(loss) < 100 for loss in re.findall(r"Loss ([0-9.]+)", said))
    assert re.search(r"\[dev\]\[6\]Accuracy-Flip: [01]\.\d+", said)
    run = checkout / "work_dirs" / "tiny"
    assert {path.name for path in run.iterdir()} == {"model.pt", "checkpoint_gpu_0.pt", "training.log", "tensorboard"}

    config.write_text(CONFIG.format(**values, epochs=2, resume=True))
    said = train(checkout)
    assert [int(step) for step in re.findall(r"Global Step: (\d+)", said)] == [8, 9, 10, 11, 12]

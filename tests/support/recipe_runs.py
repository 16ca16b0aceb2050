"""Recipes made small enough for a test, and what their runs wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from qgface_plugin.config.options import DataOptions
from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.config.run import Run

QUICK = """
from easydict import EasyDict as edict
config = edict(network="quick", embedding_size=16, rec={rec!r}, output={out!r}, batch_size={batch}, num_epoch=1,
               lr=0.05, num_workers=0, frequent=1, val_targets=["procedural_dev"])
config.qgface = edict(data=edict(source="procedural", identities=5, images_per_identity=8, pairs=20))
config.qgface.train = edict(threads=1)
"""


def two_steps(path: Path, folder: Path) -> Run:
    """A recipe of the project over a tiny data set, two steps of it."""
    run = load_recipe(path, {"DATA_ROOT": str(folder / "data")})
    options = replace(run.train, max_steps=2)
    return replace(
        run, output=str(folder / "out"), batch_size=2, num_workers=0, frequent=1, train=options, data=DataOptions()
    )


def quick_recipe(folder: Path, name: str, batch: int = 8, extra: str = "") -> Path:
    """A recipe of network `quick` over drawn faces: `folder`/`name`.py, which writes to `folder`/`name`."""
    path = folder / f"{name}.py"
    path.write_text(QUICK.format(rec=str(folder / "faces"), out=str(folder / name), batch=batch) + extra)
    return path


def losses(folder: Path) -> list[float]:
    """The loss of each logged step of the run in `folder`."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]

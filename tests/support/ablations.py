"""Stand-ins for `qgface train` and an evaluation that take no time, and plans for them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from qgface_plugin.evaluation.report.results import write_result
from qgface_plugin.experiments.paper import PaperRow
from qgface_plugin.experiments.plan import PlannedRow, PlannedRun, PlannedTable

# Counts its starts; with `wait` beside the recipe it waits for SIGTERM and leaves as the real one does.
TRAINER = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[2]).parent
with open(folder / "starts", "a") as file:
    file.write("x")
if (folder / "fail").exists():
    sys.exit("it went wrong")
if (folder / "wait").exists():
    (folder / "wait").unlink()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    (folder / "waiting").touch()
    time.sleep(60)
for name in ("model.pt", "checkpoint_gpu_0.pt"):
    (folder / name).write_bytes((folder.parent / "state.pt").read_bytes())
"""
EVALUATOR = """
import hashlib, json, pathlib, sys
from qgface_plugin.evaluation.data_mark import data_mark
model, data = pathlib.Path(sys.argv[3]), sys.argv[5]
path = model.parent / "results" / "pairs.json"
path.parent.mkdir(exist_ok=True)
result = {"accuracy": 0.9 if "seed1" in str(model) else 0.8}
settings = {"sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "data_mark": data_mark(data, "pairs")}
path.write_text(json.dumps({"protocol": "pairs", "data": data, "model": str(model), "settings": settings,
                            "results": {"sets": {"dev": result}}, "warnings": []}))
"""
PROGRAM = """
import pathlib, runpy, sys
runpy.run_path(str(pathlib.Path(__file__).with_name(sys.argv[1] + ".py")), run_name="__main__")
"""


def write_program(folder: Path) -> list[str]:
    """The stand-ins as one script; what comes between Python and a command."""
    folder.mkdir(parents=True)
    for name, source in {"train": TRAINER, "eval-pairs": EVALUATOR}.items():
        (folder / f"{name}.py").write_text(source)
    (folder / "program.py").write_text(PROGRAM)
    return [str(folder / "program.py")]


def planned(folder: Path, name: str, seed: int, epochs: int = 2) -> PlannedRun:
    """A run in `folder`, whose stand-in finds the checkpoint that it copies."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": epochs, "global_step": 9}, folder / "state.pt")
    place = folder / f"{name}-0-seed{seed}"
    return PlannedRun(place, Path(f"{name}.py"), seed, {"num_epoch": epochs, "seed": seed, "output": str(place)})


def table(*rows: tuple[PaperRow, tuple[PlannedRun, ...]]) -> PlannedTable:
    return PlannedTable("1", "Table I: x", tuple(PlannedRow(row, runs) for row, runs in rows))


def save_result(run: PlannedRun, protocol: str, results: dict, warnings: tuple[str, ...] = ()) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "recipe.json").write_text(json.dumps({"seed": run.seed}))
    write_result(protocol, data="/d", model=run.model, settings={}, results=results, warnings=warnings)

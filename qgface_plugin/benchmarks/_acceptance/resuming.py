"""Checks of the acceptance that train whole runs: resumes on another device or layout, and the quickstart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...config.options import TrainOptions
from ...config.recipe import load_recipe
from ...config.run import Run
from ...data.procedural.dataset import write_dataset
from ...training.trainer import train
from .check import Check, Found, Place

STEPS, AFTER = 12, 5
# device and layout at first, and of the run that goes on: "there" is the place's device
RESUMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CPU, then GPU": ({"device": "cpu"}, {"device": "there"}),
    "GPU, then CPU": ({"device": "there"}, {"device": "cpu"}),
    "into channels_last": ({"device": "there"}, {"device": "there", "channels_last": True}),
    "out of channels_last": ({"device": "there", "channels_last": True}, {"device": "there"}),
    "GPU, then GPU": ({"device": "there"}, {"device": "there"}),
}


def resumes(place: Place) -> Found:
    """A run in two parts against the same in one, by the losses of its last steps."""
    figures, problems = {}, []
    write_dataset(place.folder / "faces", 16, 4, 20, 0)
    for name, (first, second) in list(RESUMES.items())[: 2 if place.small else None]:
        parts, whole = (place.folder / f"{name} {kind}" for kind in ("in parts", "whole"))
        _train(place, parts, {**first, "max_steps": AFTER})
        _train(place, parts, {**second, "max_steps": STEPS}, resume=True)
        _train(place, whole, {**first, "max_steps": STEPS})
        one, other = _losses(parts), _losses(whole)
        last = [step for step in one if step > AFTER + 1]
        error = max(abs(one[step] - other[step]) / abs(other[step]) for step in last)
        figures[name] = error
        if error > 1e-2:
            problems.append(f"{name} differs by {error:.1e}")
    return Found(not problems, "; ".join(problems) or f"{max(figures.values()):.1e} at most", figures)


def _train(place: Place, output: Path, options: dict[str, Any], resume: bool = False) -> None:
    device = str(place.device) if options["device"] == "there" else options["device"]
    run = Run(
        rec=str(place.folder / "faces"), output=str(output), network="quick", embedding_size=32, batch_size=8,
        num_epoch=3, lr=0.02, num_workers=0, frequent=1, seed=3, val_targets=(), resume=resume,
        train=TrainOptions(**{**options, "device": device, "pair_grid_every": 0}),
    )  # fmt: skip
    train(run)


def _losses(output: Path) -> dict[int, float]:
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"precision": "float16"},
    "bfloat16": {"precision": "bfloat16"},
    "compiled": {"compile": True},
}


def quickstart(place: Place) -> Found:
    """The quickstart's accuracy on the CPU and, in each arithmetic, on the device."""
    run = load_recipe("quickstart", environ={})
    run = replace(run, rec=str(place.folder / "faces"))
    if place.small:
        data = replace(run.data, identities=12, images_per_identity=4, pairs=40)
        run = replace(run, data=data, batch_size=8, train=replace(run.train, max_steps=4))
    accuracy = {}
    variants = {"CPU": {"device": "cpu"}} | {name: {"device": str(place.device), **x} for name, x in VARIANTS.items()}
    for name, options in list(variants.items())[: 2 if place.small else None]:
        found = train(replace(run, output=str(place.folder / name), train=replace(run.train, **options)))
        accuracy[name] = found["procedural_dev"]["accuracy"]
    lowest = min(accuracy.values())
    good = lowest >= accuracy["CPU"] - 0.03
    return Found(good, ", ".join(f"{name} {value:.3f}" for name, value in accuracy.items()), accuracy)


CHECKS = [
    Check("resumes", "losses as of a run in one part, within 1 %", resumes, 90),
    Check("quickstart", "accuracies within 3 points of the CPU's", quickstart, 240),
]

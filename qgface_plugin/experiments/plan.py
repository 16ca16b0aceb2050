"""Which runs an ablation is made of: a row of a table, a seed, a folder, and the flat recipe in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config.recipe import load_recipe
from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import write_json, write_text
from ..utils.torch_files import peek
from . import flat_recipe
from .paper import TABLES, PaperRow, PaperTable

RECIPE, RECORD, OUTPUT = "recipe.py", "ablation.json", "output.txt"  # in a run's folder


@dataclass(frozen=True)
class PlannedRun:
    """One recipe with one seed. Rows of different tables that train the same share it."""

    folder: Path
    source: Path  # the recipe that it was made from
    seed: int
    config: Mapping[str, Any]

    @property
    def recipe(self) -> Path:
        """The flat recipe, which `train_v2.py` gets."""
        return self.folder / RECIPE

    @property
    def model(self) -> Path:
        """The encoder that is evaluated."""
        return self.folder / "model.pt"

    def trained(self) -> bool:
        """Whether training has come to its end: the newest checkpoint is of the last step, and there is a model."""
        checkpoint = self.folder / "checkpoint_gpu_0.pt"
        if not checkpoint.exists() or not self.model.exists():
            return False
        try:
            state = peek(checkpoint)
            epoch, step = int(state["epoch"]), int(state["global_step"])
        except (CheckpointError, KeyError, TypeError, ValueError):
            return False  # cut short: resuming finds the one before it
        limit = self.config.get("qgface", {}).get("train", {}).get("max_steps")
        return epoch >= self.config.get("num_epoch", 20) or (limit is not None and step >= limit)

    def check(self) -> None:
        """Raises ConfigError naming what does not fit in the recipe; writes nothing that stays."""
        with TemporaryDirectory() as folder:
            draft = Path(folder) / self.source.name
            draft.write_text(self._text(), encoding="utf-8")
            try:
                load_recipe(draft, {})
            except ConfigError as error:
                raise ConfigError(str(error).replace(str(draft), str(self.source))) from error

    def write(self) -> None:
        """Write the flat recipe, checked. Raises ConfigError naming what does not fit."""
        self.check()
        write_text(self.recipe, self._text())

    def _text(self) -> str:
        about = [
            f"{self.source.name} with seed {self.seed}: everything that the run sets, as tools/ablation.py wrote it.",
            "",
            f"    python train_v2.py {self.recipe}",
        ]
        return flat_recipe.flat_text(self.config, about)


@dataclass(frozen=True)
class PlannedRow:
    """A row of a table and its runs, one a seed."""

    row: PaperRow
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class PlannedTable:
    """A table of the paper, or of further recipes."""

    key: str
    title: str
    rows: tuple[PlannedRow, ...]


def plan(
    tables: Sequence[str],
    recipes: Sequence[Path],
    *,
    folder: Path,
    paper_recipes: Path,
    data: str | Path,
    seeds: Sequence[int],
    changes: Mapping[str, Any],
    epochs: int | None = None,
) -> list[PlannedTable]:
    """The runs of `tables` ("1", "2", "3") and of further `recipes`; nothing is written.

    folder: of all runs; paper_recipes: where the paper's recipes are; data: takes the place of config.rec; changes and
    epochs as `flat_recipe.resolve` takes them. Raises ConfigError.
    """
    chosen: list[tuple[str, PaperTable, Path | None]] = [(key, TABLES[key], None) for key in tables]
    if recipes:
        names = [path.stem for path in recipes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{', '.join(twice)}: two of the recipes have that name, and rows are named by it")
        rows = tuple(PaperRow(path.stem, str(path), path.stem) for path in recipes)
        chosen.append(("recipes", PaperTable("Further recipes", rows), Path()))
    if not chosen:
        raise ConfigError("nothing is asked for: name --tables or --recipes")
    known: dict[tuple[str, int], PlannedRun] = {}
    planned = []
    for key, table, base in chosen:
        rows = []
        for row in table.rows:
            source = Path(row.recipe) if base is not None else paper_recipes / f"{row.recipe}.py"
            config = flat_recipe.resolve(source, changes, epochs)
            config["rec"] = str(Path(data).resolve())
            mark = flat_recipe.fingerprint(config)
            runs = tuple(_run(known, folder, source, config, mark, seed) for seed in seeds)
            rows.append(PlannedRow(row, runs))
        planned.append(PlannedTable(key, table.title, tuple(rows)))
    return planned


def unique_runs(tables: Iterable[PlannedTable]) -> list[PlannedRun]:
    """Every run once: all rows with the first seed, then with the second, so that a comparison is whole early."""
    runs = {run.folder: run for table in tables for row in table.rows for run in row.runs}
    return sorted(runs.values(), key=lambda run: run.seed)


def _run(
    known: dict[tuple[str, int], PlannedRun], folder: Path, source: Path, config: dict[str, Any], mark: str, seed: int
) -> PlannedRun:
    if (mark, seed) not in known:
        there = sorted(folder.glob(f"*-{mark}-seed{seed}"))  # begun as a row of another table
        place = there[0] if there else folder / f"{source.stem}-{mark}-seed{seed}"
        own = {**config, "seed": seed, "output": str(place), "resume": True}
        known[mark, seed] = PlannedRun(place, source, seed, own)
    return known[mark, seed]


def read_record(run: PlannedRun) -> list[dict[str, Any]]:
    """What was done in the run's folder: command, commit, start, seconds and exit status of each step."""
    try:
        return list(json.loads((run.folder / RECORD).read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def begin_record(run: PlannedRun, step: Mapping[str, Any]) -> None:
    """Add a step that begins; one that is killed stays without seconds and status."""
    _write_record(run, [*read_record(run), {**step, "seconds": None, "status": None}])


def end_record(run: PlannedRun, seconds: float, status: int) -> None:
    """Note how long the step took that was begun last, and its exit status."""
    *before, last = read_record(run)
    _write_record(run, [*before, {**last, "seconds": round(seconds, 1), "status": status}])


def _write_record(run: PlannedRun, steps: list[dict[str, Any]]) -> None:
    content = {"recipe": run.source.name, "seed": run.seed, "steps": steps}
    write_json(run.folder / RECORD, content)

"""Plan of an ablation: its runs, each a row of a table with a seed, a folder and the flat recipe in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config.recipe import load_recipe
from ..utils.errors import CheckpointError, ConfigError, DataError
from ..utils.files import write_json, write_text
from ..utils.listing import is_left_behind
from ..utils.text import read_json
from . import flat_recipe
from .paper import TABLES, PaperRow, PaperTable

RECIPE, RECORD, OUTPUT = "recipe.py", "ablation.json", "output.txt"  # in a run's folder


@dataclass(frozen=True)
class PlannedRun:
    """One recipe with one seed. Rows of different tables that train the same share it.

    Attributes:
        folder: of the run.
        source: the recipe that it was made from.
        seed: of the run.
        config: everything that the run sets, plain values.
    """

    folder: Path
    source: Path
    seed: int
    config: Mapping[str, Any]

    @property
    def recipe(self) -> Path:
        """The flat recipe, which `qgface train` gets."""
        return self.folder / RECIPE

    @property
    def model(self) -> Path:
        """The encoder that is evaluated."""
        return self.folder / "model.pt"

    def trained(self) -> bool:
        """Whether training has come to its end: the newest checkpoint is of the last step, and there is a model."""
        from ..utils.torch_files import peek  # PyTorch, for which --help does not wait

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
        """Check the recipe; nothing is written that stays.

        Raises:
            ConfigError: names what does not fit.
        """
        with TemporaryDirectory() as folder:
            draft = Path(folder) / self.source.name
            draft.write_text(self._text(), encoding="utf-8")
            try:
                load_recipe(draft, {})
            except ConfigError as error:
                raise ConfigError(str(error).replace(str(draft), str(self.source))) from error

    def write(self) -> None:
        """Write the flat recipe.

        Raises:
            ConfigError: as `check`.
        """
        self.check()
        write_text(self.recipe, self._text())

    def _text(self) -> str:
        about = [
            f"{self.source.name} with seed {self.seed}: everything that the run sets, as `qgface ablation` wrote it.",
            "",
            f"    qgface train {self.recipe}",
        ]
        return flat_recipe.flat_text(self.config, about)


@dataclass(frozen=True)
class PlannedRow:
    """A row of a table and its runs, one per seed."""

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
    """The runs of tables and of further recipes; nothing is written.

    Args:
        tables: "1", "2", "3".
        recipes: files of further rows.
        folder: of all runs.
        paper_recipes: folder of the paper's recipes.
        data: takes the place of config.rec.
        seeds: of the runs of each row.
        changes: to every recipe, as `flat_recipe.resolve` takes them.
        epochs: another length of training, as `flat_recipe.resolve` takes it.

    Raises:
        ConfigError: a recipe or change that does not fit, or nothing to run.
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
        planned_rows: list[PlannedRow] = []
        for row in table.rows:
            source = Path(row.recipe) if base is not None else paper_recipes / f"{row.recipe}.py"
            config = flat_recipe.resolve(source, changes, epochs)
            config["rec"] = str(Path(data).resolve())
            mark = flat_recipe.fingerprint(config)
            runs = tuple(_run(known, folder, source, config, mark, seed) for seed in seeds)
            planned_rows.append(PlannedRow(row, runs))
        planned.append(PlannedTable(key, table.title, tuple(planned_rows)))
    return planned


def unique_runs(tables: Iterable[PlannedTable]) -> list[PlannedRun]:
    """Every run once: all rows with the first seed, then with the second, so that a comparison is whole early."""
    runs = {run.folder: run for table in tables for row in table.rows for run in row.runs}
    return sorted(runs.values(), key=lambda run: run.seed)


def _run(
    known: dict[tuple[str, int], PlannedRun], folder: Path, source: Path, config: dict[str, Any], mark: str, seed: int
) -> PlannedRun:
    if (mark, seed) not in known:
        begun = sorted(folder.glob(f"*-{mark}-seed{seed}"))  # as a row of another table
        there = [path for path in begun if not is_left_behind(path.name)]
        own_folder = there[0] if there else folder / f"{source.stem}-{mark}-seed{seed}"
        own = {**config, "seed": seed, "output": str(own_folder), "resume": True}
        known[mark, seed] = PlannedRun(own_folder, source, seed, own)
    return known[mark, seed]


def read_record(run: PlannedRun) -> list[dict[str, Any]]:
    """What was done in the run's folder: command, commit, start, seconds and exit status of each step."""
    try:
        said = read_json(run.folder / RECORD, "record")
    except DataError:
        return []
    steps = said.get("steps") if isinstance(said, dict) else None
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


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

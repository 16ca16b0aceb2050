"""Tables of the paper as one command: train every row with every seed, evaluate it, and write the tables.

qgface ablation --tables 1 2 3 --data /data/vggface2 --eval /data/faces --seeds 3 --print torchrun --gpus 4
qgface ablation --tables 1 --data /data/lfw/train --eval /data/lfw --seeds 3 \\
    --network small --epochs 8 --batch-size 32 --lr 0.05 --warmup 1 --set num_workers=1 --jobs 2
qgface ablation --recipes recipes/mine.py --data /data/vggface2 --eval /data/faces --dry-run

What is done already is left as it is: the same command goes on after an interruption, and with more rows or seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import join, quote

from tqdm import tqdm

from ..config.changes import parse_change
from ..config.packaged import recipe_folder
from ..experiments.evaluations import find_evaluations
from ..experiments.paper import TABLES
from ..experiments.plan import PlannedRun, plan, unique_runs
from ..experiments.runner import Runner, code_version
from ..experiments.tables import as_markdown, measured_tables
from ..utils.command_line import command_parser, guarded
from ..utils.errors import ConfigError, DataError
from ..utils.files import write_json, write_text
from ..utils.outputs import check_output, json_with, text_with

PROGRAM = ("-m", "qgface_plugin")


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: everything is there; 1: a run failed, or an interruption; 2: the input does not fit."""
    given = _parser(front).parse_args(arguments)
    typed = f"{given.typed} {join(sys.argv[1:] if arguments is None else arguments)}"
    return guarded(given.program, lambda: _run(given, typed))


def _run(given: argparse.Namespace, typed: str) -> int:
    if not Path(given.data).is_dir():
        raise DataError(f"--data {given.data}: no such folder; name the folder with train.rec")
    if given.jobs < 1 or given.seeds < 1 or given.gpus < 1:
        raise ConfigError("--jobs, --seeds and --gpus must be at least 1")
    changes = {
        key: value
        for key, value in (
            ("network", given.network), ("batch_size", given.batch_size), ("lr", given.lr),
            ("warmup_epoch", given.warmup), ("qgface.train.threads", given.threads),
        )
        if value is not None
    }  # fmt: skip
    tables = plan(
        given.tables,
        given.recipes,
        folder=given.output,
        paper_recipes=recipe_folder() / "paper",
        data=given.data,
        seeds=range(1, given.seeds + 1),
        changes=changes | dict(map(parse_change, given.set)),
        epochs=given.epochs,
    )
    commit, runs = code_version(), unique_runs(tables)
    for run in runs:
        run.check()
    runner = Runner(PROGRAM, find_evaluations(given.eval), given.jobs, commit, tqdm.write)
    json_path = Path(given.json) if given.json else given.output / "tables.json"
    check_output(json_path, json_with(("command", "commit", "columns", "tables"), "tables"), given.recipes)
    check_output(given.output / "tables.md", text_with(["Command: "], (".md",), "tables"))
    if given.dry_run:
        return _show(runner, runs)
    if given.print:
        return _print_commands(runs, PRINTERS[given.print], given.gpus)
    problems = [] if given.only_tables else runner.make(runs, progress=not given.quiet)
    measured = measured_tables(tables, commit, typed)
    write_json(json_path, measured)
    write_text(given.output / "tables.md", as_markdown(measured))
    print(as_markdown(measured))
    print(f"saved: {given.output / 'tables.md'}, {json_path}")
    for problem in problems:
        print(f"{given.program}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _show(runner: Runner, runs: list[PlannedRun]) -> int:
    for run in runs:
        missing = runner.missing(run)
        print(f"{run.folder}: {'to do: ' + ', '.join(missing) if missing else 'done'}")
    needed = sum(bool(runner.missing(run)) for run in runs)
    protocols = ", ".join(evaluation.protocol for evaluation in runner.evaluations)
    print(f"{len(runs)} runs, {needed} with something to do; evaluations: {protocols or 'none'}")
    return 0


def _print_commands(runs: list[PlannedRun], command: Callable[[PlannedRun, int], str], gpus: int) -> int:
    """Write the recipes and print a command for each training that is not done; evaluating them is this tool's."""
    for run in runs:
        if not run.trained():
            run.write()
            print(command(run, gpus))
    print("# then this tool again, without --print: it evaluates what is trained and writes the tables")
    return 0


def _torchrun(run: PlannedRun, gpus: int) -> str:
    return f"torchrun --nproc_per_node={gpus} -m qgface_plugin train {quote(str(run.recipe))}"


def _slurm(run: PlannedRun, gpus: int) -> str:
    log = quote(str(run.folder / "slurm-%j.txt"))
    return f"sbatch --job-name={run.folder.name} --gpus={gpus} --output={log} --wrap={quote(_torchrun(run, gpus))}"


PRINTERS = {"torchrun": _torchrun, "slurm": _slurm}


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("ablation", __doc__, front)
    what = parser.add_argument_group("what is compared")
    what.add_argument("--tables", nargs="+", choices=[*TABLES], default=[], help="tables of the paper")
    what.add_argument("--recipes", metavar="FILE", nargs="+", type=Path, default=[], help="recipes as further rows")
    what.add_argument("--seeds", metavar="N", type=int, default=3, help="runs of each, seeds 1 to N (default: 3)")
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="DIR", required=True, help="training data, in the place of config.rec")
    data.add_argument(
        "--eval", metavar="DIR", nargs="+", default=[], help="folders with .bin sets, SCface, TinyFace or IJB-B in them"
    )
    changed = parser.add_argument_group("changes to every recipe (default: what it says)")
    changed.add_argument("--network", metavar="NAME", help="config.network")
    changed.add_argument("--epochs", metavar="N", type=int, help="config.num_epoch; milestones move in proportion")
    changed.add_argument("--batch-size", metavar="N", type=int, help="config.batch_size")
    changed.add_argument("--lr", metavar="X", type=float, help="config.lr")
    changed.add_argument("--warmup", metavar="X", type=float, help="config.warmup_epoch")
    changed.add_argument("--threads", metavar="N", type=int, help="config.qgface.train.threads")
    changed.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="any other, such as qgface.train.precision=bfloat16",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("work_dirs/ablation"), help="(default: %(default)s)"
    )
    how.add_argument("--json", metavar="FILE", help="the tables as JSON (default: tables.json in --output)")
    how.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time on this machine (default: 1)")
    how.add_argument("--print", choices=[*PRINTERS], help="print the trainings' commands instead of running them")
    how.add_argument("--gpus", metavar="N", type=int, default=1, help="GPUs of a printed command (default: 1)")
    how.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
    how.add_argument("--only-tables", action="store_true", help="write the tables from what is there")
    how.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser

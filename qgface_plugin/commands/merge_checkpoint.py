"""Make one checkpoint of the ones that all ranks of a run have saved.

    qgface merge-checkpoint work_dirs/qgface_r34
    qgface merge-checkpoint work_dirs/qgface_r34 -o work_dirs/moved/checkpoint_gpu_0.pt

The result holds all class centres, the whole queue and the optimiser's state under arcface_torch's keys, as a run on
one GPU saves them; `torch.load(FILE, weights_only=True)` reads it. Under the name checkpoint_gpu_0.pt in a folder of
its own, a run with that folder as config.output and config.resume = True goes on from it, on any number of ranks.
`config.init_from` takes it too. Exit status: 0 written, 1 it could not be written, 2 the checkpoints do not fit.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..utils.command_line import command_parser, print_any_name
from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import write_json
from ..utils.outputs import CHECKPOINT, check_output, json_with


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Parse, merge, write, and say what was written."""
    parser = command_parser("merge-checkpoint", __doc__, front)
    parser.add_argument("folder", metavar="DIR", help="a run's folder, with checkpoint_gpu_<rank>.pt of all ranks")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: DIR/checkpoint_merged.pt")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write what is printed as JSON")
    given = parser.parse_args(arguments)
    from ..training.checkpoints.reshard import latest_files, merge
    from ..utils.torch_files import save

    print_any_name()
    target = given.output or Path(given.folder) / "checkpoint_merged.pt"
    try:
        files = latest_files(given.folder)
        if target.resolve() in {entry.path.resolve() for entry in files}:
            raise CheckpointError(f"{target} is one of the files to merge: choose another name")
        inputs = [entry.path for entry in files]
        check_output(target, CHECKPOINT, inputs)
        check_output(given.json, json_with(("file", "merged", "global_step"), "report"), [*inputs, target])
        state = merge(files)
    except (CheckpointError, ConfigError) as error:
        print(f"{given.program}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{given.program}: {error.filename}: {error.strerror}; name another place", file=sys.stderr)
        return 1
    criterion = state["state_dict_softmax_fc"]
    report = {
        "file": str(target),
        "merged": [str(entry.path) for entry in files],
        "global_step": state["global_step"],
        "epoch": state["epoch"],
        "classes": len(criterion["weight"]),
        "queue_entries": int((criterion["queue.serial"] > -(2**62)).sum()) if "queue.serial" in criterion else 0,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save(target, state)
        if given.json:
            write_json(given.json, report)
    except (CheckpointError, OSError) as error:
        print(f"{given.program}: {error}", file=sys.stderr)
        return 1
    for key, value in report.items():
        print(f"{key:14} {len(value)} files" if key == "merged" else f"{key:14} {value}")
    return 0

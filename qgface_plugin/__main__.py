"""The plugin and arcface_torch checkouts: look at one, attach the plugin to it, run its scripts.

python -m qgface_plugin doctor
python -m qgface_plugin attach insightface/recognition/arcface_torch
torchrun -m qgface_plugin run train_v2.py configs/ms1mv3_r50
"""

from __future__ import annotations

import argparse
import sys

from .utils.command_line import guarded, print_any_name
from .utils.errors import ConfigError

PROGRAM = "python -m qgface_plugin"


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: done; 1: the doctor found something missing, or a file cannot be written; 2: a folder or file
    that does not fit. What a script that `run` runs raises passes through."""
    given = _parser().parse_args(arguments)
    return _run(given) if given.command is _run else guarded(PROGRAM, lambda: given.command(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    attach = commands.add_parser("attach", help="let a checkout's train_v2.py load the plugin: one marked line")
    attach.set_defaults(command=_attach)
    detach = commands.add_parser("detach", help="take that line out again, byte for byte")
    detach.set_defaults(command=_detach)
    for command in (attach, detach):
        command.add_argument("folder", metavar="DIR", help="an arcface_torch folder")
    doctor = commands.add_parser("doctor", help="say what is there, what is missing and what will be repaired")
    doctor.set_defaults(command=_doctor)
    doctor.add_argument(
        "folder", metavar="DIR", nargs="?", help="an arcface_torch folder; else ARCFACE_TORCH, else this one if it is"
    )
    doctor.add_argument("--data", metavar="DIR", help="look at a data set too")
    doctor.add_argument("--json", action="store_true", help="for programs")
    run = commands.add_parser("run", help="run a script of a checkout with the repairs it needs")
    run.set_defaults(command=_run)
    run.add_argument("script", metavar="SCRIPT", help="such as train_v2.py or eval_ijbc.py, in the checkout")
    run.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="the script's own arguments")
    return parser


def _attach(given: argparse.Namespace) -> int:
    from .arcface_torch.attach import attach

    print(attach(given.folder))
    return 0


def _detach(given: argparse.Namespace) -> int:
    from .arcface_torch.attach import detach

    print(detach(given.folder))
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from .arcface_torch.doctor import examine

    report = examine(given.folder, given.data)
    print(report.as_json() if given.json else report.as_text())
    return 0 if report.can_train else 1


def _run(given: argparse.Namespace) -> int:
    from .arcface_torch.run import run_script

    print_any_name()
    try:
        run_script(given.script, given.arguments)
    except ConfigError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

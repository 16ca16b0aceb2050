"""How much GPU memory the class centres, the queue and a step of the loss will take on each rank. No GPU is needed.

qgface plan-memory --classes 2000000 --ranks 32 --sample-rate 0.3 --pairs 128
qgface plan-memory --table
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from ..utils.command_line import command_parser
from ..utils.errors import ConfigError
from ..utils.outputs import check_output, json_with

NO_SETTINGS = ("json", "table", "program", "typed")


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: planned; 1: the JSON file could not be written; 2: a number is out of range."""
    given = _parser(front).parse_args(arguments)
    from ..loss.memory_plan import memory_table, plan_memory

    if given.table:
        print(memory_table())
        return 0
    try:
        check_output(given.json, json_with(("settings", "bytes"), "plan"))
        plan = plan_memory(
            given.classes,
            given.ranks,
            given.dim,
            queue=given.queue,
            queue_size=given.queue_size,
            sample_rate=given.sample_rate,
            rows=2 * given.pairs * given.ranks,
            optimizer=given.optimizer,
        )
    except ConfigError as error:
        print(f"{given.program}: {error}", file=sys.stderr)
        return 2
    parts = {**asdict(plan), "state": plan.state, "total": plan.total}
    for name, size in parts.items():
        print(f"{name:10} {size / 2**30:9.3f} GiB")
    if given.json:
        settings = {
            key: value for key, value in vars(given).items() if key not in ("json", "table", "program", "typed")
        }
        try:
            Path(given.json).write_text(json.dumps({"settings": settings, "bytes": parts}, indent=2) + "\n")
        except OSError as error:
            print(f"{given.program}: {given.json}: {error.strerror}", file=sys.stderr)
            return 1
    return 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("plan-memory", __doc__, front)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--classes", metavar="N", type=int, help="identities in the training set")
    what.add_argument("--table", action="store_true", help="the table of docs/ranks.md")
    parser.add_argument("--ranks", metavar="N", type=int, default=1, help="GPUs, over all hosts (default: 1)")
    parser.add_argument("--pairs", metavar="N", type=int, default=128, help="config.batch_size (default: 128)")
    parser.add_argument("--dim", metavar="N", type=int, default=512, help="config.embedding_size (default: 512)")
    parser.add_argument("--sample-rate", metavar="X", type=float, default=1.0, help="config.sample_rate (default: 1)")
    queues = ("proxy", "momentum", "batch", "none")
    parser.add_argument("--queue", choices=queues, default="proxy", help="config.qgface.queue (default: proxy)")
    parser.add_argument("--queue-size", metavar="Q", type=int, help="config.qgface.queue_size (default: the classes)")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd", help="(default: sgd)")
    parser.add_argument("--json", metavar="FILE", help="write bytes and settings here too")
    return parser

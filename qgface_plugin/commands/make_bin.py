"""Make a verification set: a pairs file and aligned faces become a .bin, as arcface_torch's `val_targets` reads it.

qgface make-bin pairs.txt --root lfw_aligned -o lfw.bin          # LFW's own pairs.txt
qgface make-bin mine.csv --root faces -o mine.bin                # lines a.jpg,b.jpg,1
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ..data.images import surplus_line
from ..data.packing.pairs_to_bin import PairReport, pack_pairs, read_pairs
from ..utils.command_line import add_on_corrupt, command_parser, guarded, print_table
from ..utils.files import write_json
from ..utils.outputs import PAIR_SET, check_output, report_of


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: written; 1: failed while writing; 2: the input does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_output(given.output, PAIR_SET, [given.pairs])
    check_output(given.json, report_of(PairReport), [given.pairs, given.output])
    pairs = read_pairs(given.pairs)
    root = given.root or given.pairs.parent
    report = pack_pairs(
        pairs, root, given.output, given.size, given.quality, given.on_corrupt, given.workers, progress=True
    )
    print_table(
        {
            "written": report.file,
            "pairs": report.pairs,
            "of one person": report.same,
            "of two": report.pairs - report.same,
            "different images": report.images,
            f"resized to {given.size}": report.resized,
            "repeated pairs": report.repeated,
            "pairs left out": report.left_out,
        }
    )
    for name, reason in report.problems:
        print(f"{given.program}: {root / name}: {reason}", file=sys.stderr)
    if report.surplus:
        print(f"{given.program}: {surplus_line(report.surplus)}", file=sys.stderr)
    if report.left_out:
        print(f"{given.program}: with pairs left out the ten folds are not those of the pairs file", file=sys.stderr)
    if report.same in (0, report.pairs):
        print(f"{given.program}: all pairs are of one kind, so no accuracy can be measured on them", file=sys.stderr)
    if given.json:
        write_json(given.json, asdict(report))
    return 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("make-bin", __doc__, front)
    parser.add_argument("pairs", metavar="PAIRS", type=Path, help="LFW's pairs.txt, or a .csv of lines a,b,1 or a,b,0")
    parser.add_argument("--root", metavar="DIR", type=Path, help="folder of the images [that of the pairs file]")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the .bin to write")
    parser.add_argument("--size", metavar="N", type=int, default=112, help="side in pixels [%(default)s]")
    parser.add_argument(
        "--quality", metavar="Q", type=int, default=95, help="of images that are resized, 1 to 100 [%(default)s]"
    )
    add_on_corrupt(parser)
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads [%(default)s]")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table for programs too")
    return parser

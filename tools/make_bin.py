"""Make a verification set: a pairs file and aligned faces become a .bin, as arcface_torch's `val_targets` reads it.

python tools/make_bin.py pairs.txt --root lfw_aligned -o lfw.bin          # LFW's own pairs.txt
python tools/make_bin.py mine.csv --root faces -o mine.bin                # lines a.jpg,b.jpg,1
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from qgface_plugin.data.images import surplus_line
from qgface_plugin.data.packing.pairs_to_bin import PairReport, pack_pairs, read_pairs
from qgface_plugin.utils.command_line import add_on_corrupt, guarded, print_table
from qgface_plugin.utils.files import write_json
from qgface_plugin.utils.outputs import PAIR_SET, check_output, report_of


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: written; 1: failed while writing; 2: the input does not fit."""
    given = _parser().parse_args(arguments)
    return guarded("make_bin.py", lambda: _run(given))


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
        print(f"make_bin.py: {root / name}: {reason}", file=sys.stderr)
    if report.surplus:
        print(f"make_bin.py: {surplus_line(report.surplus)}", file=sys.stderr)
    if report.left_out:
        print("make_bin.py: with pairs left out the ten folds are not those of the pairs file", file=sys.stderr)
    if report.same in (0, report.pairs):
        print("make_bin.py: all pairs are of one kind, so no accuracy can be measured on them", file=sys.stderr)
    if given.json:
        write_json(given.json, asdict(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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


if __name__ == "__main__":
    sys.exit(main())

"""Look into a record set: counts, layout, identities, sizes, a contact sheet, and whether everything can be read.

qgface inspect packed --sheet sheet.png
qgface inspect packed/train.rec --quick
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ..data.images import encode_png, surplus_line
from ..data.packing.contact_sheet import contact_sheet
from ..data.packing.inspection import Inspection, inspect_records
from ..data.sources.records import FaceRecords
from ..utils.command_line import command_parser, guarded, print_table
from ..utils.files import write_bytes, write_json
from ..utils.outputs import PNG, check_output, report_of

SHOWN = 20  # problems of one kind that are printed; --json has them all


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: sound; 1: problems were found; 2: this is no record set that can be opened."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_output(given.json, report_of(Inspection), [given.root])
    check_output(given.sheet, PNG, [given.root])
    inspection = inspect_records(given.root, not given.quick, given.workers, progress=True)
    _print(inspection, given.program)
    if given.json:
        write_json(given.json, {**asdict(inspection), "sound": inspection.sound})
    if given.sheet:
        sheet = contact_sheet(FaceRecords(given.root, on_corrupt="skip"), given.rows, given.columns, given.seed)
        write_bytes(given.sheet, encode_png(sheet))
        print(f"contact sheet: {given.sheet}")
    return 0 if inspection.sound else 1


def _print(inspection: Inspection, program: str) -> None:
    spread = inspection.images_per_identity
    rows: dict[str, object] = {}
    for path, file in inspection.files.items():
        rows[path] = f"{file['layout']}; {file['bytes'] / 1e6:.1f} MB"
    rows["images"] = inspection.images
    rows["classes"] = inspection.num_classes
    rows["identities with images"] = inspection.identities
    rows["images per identity"] = (
        f"{spread['min']} to {spread['max']}, mean {spread['mean']:.1f}, median {spread['median']:g}"
    )
    for name, count in inspection.histogram.items():
        rows[f"  {name} images"] = f"{count} identities"
    problems = list(inspection.problems)
    soundness = inspection.soundness
    if soundness is None:
        rows["integrity"] = "images not read (--quick)"
    else:
        rows["encodings"] = ", ".join(f"{count} {kind}" for kind, count in soundness.encodings.items())
        rows["sides in pixels"] = ", ".join(f"{count} of {pixels}" for pixels, count in soundness.sides.items())
        rows["repeated images"] = f"{soundness.repeated}, {soundness.repeated_elsewhere} of them under another identity"
        rows["with surplus bytes"] = soundness.surplus
        rows["unusable images"] = len(soundness.problems)
        problems += soundness.problems
    rows["verdict"] = "sound" if inspection.sound else f"{len(problems)} problems"
    print_table(rows)
    if soundness is not None and soundness.surplus:
        print(f"{program}: {surplus_line(soundness.surplus)}", file=sys.stderr)
    for problem in problems[:SHOWN]:
        print(f"{program}: {problem}", file=sys.stderr)
    if len(problems) > SHOWN:
        print(f"{program}: and {len(problems) - SHOWN} more; --json FILE writes all", file=sys.stderr)


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("inspect", __doc__, front)
    parser.add_argument("root", metavar="DATA", type=Path, help="a folder with .rec files, or one such file")
    parser.add_argument("--quick", action="store_true", help="only headers and labels: do not read the images")
    parser.add_argument("--sheet", metavar="FILE", type=Path, help="write a contact sheet as PNG")
    parser.add_argument("--rows", metavar="N", type=int, default=10, help="identities on the sheet [%(default)s]")
    parser.add_argument("--columns", metavar="N", type=int, default=10, help="images per identity [%(default)s]")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="which identities are drawn [%(default)s]")
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads [%(default)s]")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything for programs too")
    return parser

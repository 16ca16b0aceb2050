"""Pack aligned faces into RecordIO: train.rec, train.idx, train.lst and property, without MXNet.

qgface pack faces -o packed                              # faces/<identity>/<image>
qgface pack train.lst --root faces -o packed --style im2rec
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ..data.images import surplus_line
from ..data.packing.faces import SAME_NAMES, list_faces
from ..data.packing.pack import LEFT_OUT, PackReport, pack_faces
from ..data.packing.record_set import STYLES, PackOptions
from ..utils.command_line import add_on_corrupt, command_parser, guarded, print_table
from ..utils.files import write_json
from ..utils.outputs import check_output, report_of


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: packed; 1: failed while writing; 2: the input does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_output(given.json, report_of(PackReport), given.sources)
    options = PackOptions(
        style=given.style,
        size=given.size,
        quality=given.quality,
        shuffle=given.shuffle,
        min_images=given.min_images,
        on_corrupt=given.on_corrupt,
        workers=given.workers,
        overwrite=given.overwrite,
    )
    found = list_faces(given.sources, given.root, given.same_names)
    report = {**asdict(pack_faces(found, given.output, options, progress=True)), "passed_over": found.passed_over}
    print_table(
        {
            "packed": given.output / "train.rec",
            "layout": report["style"],
            "images": report["images"],
            "identities": report["identities"],
            "with one image": report["single_image_identities"],
            "as they were": report["as_they_were"],
            f"resized to {given.size}": report["resized"],
            "left out": f"{report['left_out']}, see {given.output / LEFT_OUT}" if report["left_out"] else 0,
            "other files passed over": report["passed_over"],
            "megabytes": f"{report['bytes'] / 1e6:.1f}",
        }
    )
    if report["surplus"]:
        print(f"{given.program}: {surplus_line(report['surplus'])}", file=sys.stderr)
    if given.json:
        write_json(given.json, report)
    return 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("pack", __doc__, front)
    parser.add_argument("sources", metavar="SOURCE", nargs="+", type=Path, help="folders of identities, or .lst files")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to write")
    parser.add_argument("--root", metavar="DIR", type=Path, help="what a list's paths are relative to [the list]")
    parser.add_argument(
        "--style",
        choices=STYLES,
        default="insightface",
        help="with header records, or images only [%(default)s]",
    )
    parser.add_argument("--size", metavar="N", type=int, default=112, help="side in pixels [%(default)s]")
    parser.add_argument(
        "--quality",
        metavar="Q",
        type=int,
        default=95,
        help="of images that are resized, 1 to 100 [%(default)s]",
    )
    parser.add_argument("--shuffle", metavar="SEED", type=int, help="put the images in a random order in the file")
    parser.add_argument("--min-images", metavar="N", type=int, default=1, help="leave out identities with fewer")
    parser.add_argument(
        "--same-names",
        choices=SAME_NAMES,
        default="error",
        help="what one identity name in several sources means: refuse, one person, or several [%(default)s]",
    )
    add_on_corrupt(parser)
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads [%(default)s]")
    parser.add_argument("--overwrite", action="store_true", help="replace a record set that is there")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table for programs too")
    return parser

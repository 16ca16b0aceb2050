"""Pack aligned faces into RecordIO: train.rec, train.idx, train.lst and property, without MXNet.

qgface pack faces -o packed                              # faces/<identity>/<image>
qgface pack train.lst --root faces -o packed --style im2rec
qgface pack --from-lmdb hsface10k.lmdb -o packed         # or --from-webdataset, --from-parquet
qgface pack packed --subset identities=1000,images-per-identity=20 -o small
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ..data.images import surplus_line
from ..data.packing.faces import SAME_NAMES, FaceList, list_faces
from ..data.packing.pack import LEFT_OUT, PackReport, check_free, pack_faces, side_of
from ..data.packing.record_set import STYLES, PackOptions
from ..data.packing.subset import Subset, choose
from ..utils.command_line import add_on_corrupt, command_parser, guarded, print_table
from ..utils.errors import ConfigError
from ..utils.files import write_json
from ..utils.outputs import check_output, report_of


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: packed; 1: failed while writing; 2: the input does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _found(given: argparse.Namespace, subset: Subset | None) -> FaceList:
    """The faces that the command line names, from one kind of source."""
    foreign = [*given.from_lmdb, *given.from_webdataset, *given.from_parquet]
    if bool(foreign) == bool(given.sources) or foreign and subset:
        raise ConfigError(
            "name sources, or one of --from-lmdb, --from-webdataset, --from-parquet; --subset goes with a folder that "
            "has train.rec"
        )
    if given.from_lmdb:
        from ..data.packing.foreign.lmdb_faces import lmdb_faces

        return lmdb_faces(given.from_lmdb, given.same_names, progress=True)
    if given.from_webdataset:
        from ..data.packing.foreign.webdataset import webdataset_faces

        return webdataset_faces(given.from_webdataset, given.output, given.label_key, progress=True)
    if given.from_parquet:
        from ..data.packing.foreign.parquet import parquet_faces

        return parquet_faces(given.from_parquet, given.output, given.image_key, given.label_key, progress=True)
    if subset:
        from ..data.packing.foreign.records import record_faces

        if len(given.sources) > 1:
            raise ConfigError(f"--subset takes one set, and {len(given.sources)} are named")
        return choose(record_faces(given.sources[0], given.on_corrupt), subset)
    return list_faces(given.sources, given.root, given.same_names)


def _run(given: argparse.Namespace) -> int:
    inputs = [*given.sources, *given.from_lmdb, *given.from_webdataset, *given.from_parquet]
    check_output(given.json, report_of(PackReport), inputs)
    subset = Subset.parse(given.subset) if given.subset else None
    check_free(given.output, given.overwrite)
    found = _found(given, subset)
    size = given.size or (side_of(found) if subset else 112)
    options = PackOptions(
        style=given.style,
        size=size,
        quality=given.quality,
        shuffle=given.shuffle,
        min_images=given.min_images,
        on_corrupt=given.on_corrupt,
        workers=given.workers,
        overwrite=given.overwrite,
        as_they_are=subset is not None and given.size is None,
    )
    report = {**asdict(pack_faces(found, given.output, options, progress=True)), "passed_over": found.passed_over}
    print_table(
        {
            "packed": given.output / "train.rec",
            "layout": report["style"],
            "images": report["images"],
            "identities": report["identities"],
            "with one image": report["single_image_identities"],
            "as they were": report["as_they_were"],
            f"resized to {size}": report["resized"],
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
    parser.add_argument("sources", metavar="SOURCE", nargs="*", type=Path, help="folders of identities, or .lst files")
    foreign = parser.add_argument_group("what others have packed")
    foreign.add_argument(
        "--from-lmdb", metavar="FILE", nargs="+", default=[], help="key -> msgpack of (image, label), as HSFace has it"
    )
    foreign.add_argument(
        "--from-webdataset",
        metavar="TARS",
        nargs="+",
        default=[],
        help="key.jpg with key.cls, .json or .txt; tars, patterns in quotes, .txt lists of tars, folders",
    )
    foreign.add_argument(
        "--from-parquet", metavar="FILES", nargs="+", default=[], help="image data sets of Hugging Face; likewise"
    )
    foreign.add_argument("--image-key", metavar="NAME", help="column of the images [found by name and type]")
    foreign.add_argument("--label-key", metavar="NAME", help="column, or key in a .json, of the labels [found by name]")
    parser.add_argument(
        "--subset",
        metavar="WHAT",
        nargs="+",
        help="a part of a set: identities=N, images-per-identity=N, seed=N, list=FILE; SOURCE has train.rec",
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to write")
    parser.add_argument("--root", metavar="DIR", type=Path, help="what a list's paths are relative to [the list]")
    parser.add_argument(
        "--style",
        choices=STYLES,
        default="insightface",
        help="with header records, or images only [%(default)s]",
    )
    parser.add_argument("--size", metavar="N", type=int, help="side in pixels [112; a subset: as it is]")
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

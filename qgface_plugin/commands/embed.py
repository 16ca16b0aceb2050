"""Embeddings of a folder of photographs, with the quality of each, in one file: for a search index or a gallery.

qgface embed aligned -o faces.npz --model model.pt                                 # aligned faces, 112 x 112
qgface embed photos -o faces.parquet --model buffalo_l --detector buffalo_l        # photographs of any size
qgface embed list.txt -o faces.csv --model model.onnx --calibration calibration.json
torchrun --nproc_per_node 8 -m qgface_plugin embed photos -o faces.npz --model model.pt --detector mine:find_faces
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from ..evaluation.arguments import add_model_arguments
from ..utils.command_line import add_on_corrupt, command_parser, guarded, print_table
from ..utils.errors import DataError

FORMATS = ("npz", "parquet", "csv")


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: written, perhaps with failures listed; 1: could not go on, and does when it is called
    again; 2: the model, a photograph or an argument does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    from ..data.packing.align_folder import largest_face
    from ..data.packing.detectors import find_detector
    from ..evaluation.arguments import model_from_arguments
    from ..evaluation.embed_job import Job, parts_folder, remove_parts, run_job
    from ..evaluation.embedding_files import KINDS, format_of, write_embeddings
    from ..models.photographs import with_quality
    from ..utils.outputs import check_output, text_with
    from ..utils.rendezvous import int_from

    first = int_from("RANK", default=0) == 0
    kind = KINDS[format_of(given.output, given.format)]
    failed = Path(f"{given.output}.failures.csv")
    check_output(given.output, kind, [given.model, given.photos])
    check_output(failed, text_with(["path,reason"], (".csv",), "list of failures"))
    root, names = photographs(given.photos, given.root)
    find = largest_face(find_detector(given.detector, given.threshold)) if given.detector else None
    model = model_from_arguments(given)
    calibration = calibration_of(given.calibration, model, given)
    plan = _plan(given, names)
    if given.restart and first:
        remove_parts(parts_folder(given.output))
    job = Job(root, names, plan, not given.no_flip, given.batch_size, given.workers, given.on_corrupt)
    folder = parts_folder(given.output)
    found, before = run_job(job, model, find, folder, None if given.quiet else "embedding")
    if found is None:  # another rank than 0
        return 0
    _list_failures(failed, found.failures)
    if not len(found):
        name, reason = next(iter(found.failures.items()))
        raise DataError(f"none of {len(names)} photographs has an embedding; the first, {name}: {reason}")
    found = found if calibration is None else with_quality(found, calibration)
    settings = {**plan, "model": os.path.abspath(given.model), "dim": model.dim}
    settings |= {} if calibration is None else {"calibration": calibration.as_dict()}
    write_embeddings(given.output, found, settings)
    remove_parts(folder)
    several = int((found.faces > 1).sum())
    print_table(
        {
            "photographs": f"{len(names):,}",
            "embedded": f"{len(found):,} of {model.dim} numbers each, unit length",
            **({"there already": f"{before} of {job.parts} parts"} if before else {}),
            **({"with several faces": f"{several:,}, the largest is embedded"} if several else {}),
            "failures": f"{len(found.failures):,}, see {failed}" if found.failures else 0,
            "flip fusion": "yes" if job.flip else "no",
            "quality": "norm" if calibration is None else f"norm, and percent of {calibration.reference} below it",
            "written": given.output,
        }
    )
    for warning in getattr(model, "warnings", ()):
        print(f"{given.program}: warning: {warning}", file=sys.stderr)
    return 0


def photographs(source: Path, root: Path | None = None) -> tuple[Path, list[str]]:
    """What names are relative to, and the names, of a folder or of a list.

    Args:
        source: a folder, at any depth; or a text file with a path in each line, blank lines and lines that begin with #
            passed over.
        root: what a list's paths are relative to; None: the list's own folder.

    Raises:
        DataError: no such folder or list, nothing in it, or a path listed twice.
    """
    from ..data.image_files import SUFFIXES, list_photos
    from ..utils.text import meant_path, read_lines

    if source.is_dir():
        return source, list_photos(source)
    if source.suffix.lower() in SUFFIXES:
        return source.parent, [source.name]
    if not source.is_file():
        raise DataError(f"{source}: no such folder or list: name a folder, or a file with one path per line")
    root = source.parent if root is None else root
    lines = [line.strip() for _, line in read_lines(source, "list of photographs")]
    names = [meant_path(root, line) for line in lines if line and not line.startswith("#")]
    if not names:
        raise DataError(f"{source}: no photograph is listed in it")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{source}: {twice} is listed twice; list each photograph once")
    return root, names


def calibration_of(file: Path | None, model: Any, given: argparse.Namespace) -> Any:
    """The calibration in a file, checked to be this model's; else the one that an ONNX file carries; else None."""
    from ..models.digest import model_digest
    from ..models.quality_calibration import QualityCalibration

    if file is not None:
        calibration = QualityCalibration.load(file)
        calibration.check_model(model_digest(given.model), given.model)
        return calibration
    session = getattr(model, "session", None)
    metadata = {} if session is None else session.get_modelmeta().custom_metadata_map
    return QualityCalibration.from_metadata(metadata, given.model)


def _plan(given: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """What decides the numbers, beside the photographs' content."""
    listed = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()
    return {
        "photographs": str(given.photos.resolve()),
        "names_sha256": listed,
        "model_sha256": given.sha256,
        "network": given.network,
        "color": given.color,
        "mean": given.mean,
        "std": given.std,
        "detector": given.detector,
        "threshold": given.threshold if given.detector else None,
        "flip_fusion": not given.no_flip,
        "on_corrupt": given.on_corrupt,
        "batch_size": given.batch_size,
    }


def _list_failures(path: Path, failures: dict[str, str]) -> None:
    from ..utils.files import atomic_write

    path.unlink(missing_ok=True)
    if failures:
        with atomic_write(path, "w", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "reason"), *failures.items()])


def add_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --detector and --threshold."""
    parser.add_argument(
        "--detector",
        metavar="NAME",
        help="finds faces and their landmarks: a pack of InsightFace's in ~/.insightface/models (buffalo_l), an .onnx "
        "file of its detectors or of OpenCV's YuNet, or your own, module:function (default: none; photographs are "
        "aligned faces of 112 x 112)",
    )
    parser.add_argument("--threshold", metavar="S", type=float, default=0.5, help="lowest score of a face [0.5]")


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("embed", __doc__, front)
    parser.add_argument("photos", metavar="PHOTOS", type=Path, help="a folder, or a list with one path in each line")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help=".npz, .parquet or .csv")
    parser.add_argument("--format", choices=FORMATS, help="of the output (default: by its name)")
    parser.add_argument("--root", metavar="DIR", type=Path, help="what a list's paths are relative to [its folder]")
    add_model_arguments(parser)
    add_detector_arguments(parser)
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="of this model's norms, by eval-quality --calibrate (default: what the ONNX file carries, if any)",
    )
    parser.add_argument("--no-flip", action="store_true", help="features of the images alone, without mirror images")
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads that read and align (default: 4)")
    add_on_corrupt(parser)
    parser.add_argument("--restart", action="store_true", help="throw away what an interrupted job has left")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser

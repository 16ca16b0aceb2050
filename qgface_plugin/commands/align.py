"""Align faces by five landmarks to the 112 x 112 ArcFace template, as InsightFace does.

qgface align photos -o aligned --landmarks landmarks.csv
qgface align photos -o aligned --detector buffalo_l        # a pack in ~/.insightface/models
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ..data.packing.align_folder import (
    FAILURES,
    FORMATS,
    AlignOptions,
    AlignReport,
    align_folder,
    given_landmarks,
    largest_face,
)
from ..data.packing.detectors import find_detector
from ..data.packing.landmark_checks import ORDERS
from ..data.packing.landmarks import check_order, read_landmarks
from ..utils.command_line import command_parser, guarded, print_table
from ..utils.files import write_json
from ..utils.outputs import check_output, report_of


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: aligned, perhaps with failures listed; 1: not one face; 2: the input does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_output(given.json, report_of(AlignReport), [given.landmarks, given.detector])
    options = AlignOptions(given.size, given.format, given.quality, given.workers, given.overwrite)
    if given.landmarks:
        landmarks = read_landmarks(given.landmarks, given.landmark_order)
        check_order(landmarks, given.landmarks)
        find, expected = given_landmarks(landmarks), set(landmarks)
    else:
        find, expected = largest_face(find_detector(given.detector, given.threshold)), None
    report = align_folder(given.photos, given.output, find, options, expected, progress=True)
    listed = f"{len(report.failures)}, see {given.output / FAILURES}" if report.failures else 0
    print_table(
        {
            "images": report.images,
            "aligned now": report.aligned,
            "there already": report.already,
            "with several faces": report.several_faces,
            "failures": listed,
        }
    )
    for warning in report.warnings:
        print(f"{given.program}: warning: {warning}", file=sys.stderr)
    for name, reason in report.failures[:3]:
        print(f"{given.program}: {name}: {reason}", file=sys.stderr)
    if given.json:
        write_json(given.json, asdict(report))
    return 0 if report.aligned or report.already else 1


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("align", __doc__, front)
    parser.add_argument("photos", metavar="PHOTOS", type=Path, help="folder of photographs, with any sub-folders")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the aligned faces")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--landmarks", metavar="FILE", type=Path, help="path and ten numbers an image: .csv, .json, or text as IJB's"
    )
    source.add_argument(
        "--detector",
        metavar="MODEL",
        help="InsightFace's: a pack in ~/.insightface/models, a folder or an .onnx file; OpenCV's YuNet, .onnx; "
        "or your own, module:function",
    )
    parser.add_argument(
        "--landmark-order",
        choices=ORDERS,
        default="xy",
        help="of the ten numbers: x1 y1 x2 y2 ... with the image's left first (xy), five x before five y, y before x, "
        "left and right exchanged (sides) [%(default)s]",
    )
    parser.add_argument("--threshold", metavar="S", type=float, default=0.5, help="lowest score of a face [0.5]")
    parser.add_argument("--size", metavar="N", type=int, default=112, help="side in pixels: 112, 128 [%(default)s]")
    parser.add_argument("--format", choices=FORMATS, default="jpg", help="of the aligned faces [%(default)s]")
    parser.add_argument("--quality", metavar="Q", type=int, default=95, help="of JPEGs, 1 to 100 [%(default)s]")
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads [%(default)s]")
    parser.add_argument("--overwrite", action="store_true", help="align again what is there already")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table for programs too")
    return parser

"""Evaluation on TinyFace: rank-1, 5, 20 and mAP of low-resolution probes among gallery matches and distractors.

qgface eval-tinyface --model work_dirs/qgface_r34/model.pt --data /data/tinyface
qgface eval-tinyface --model model.onnx --data /data/tinyface --aligned aligned_by_me --on-corrupt skip
"""

from __future__ import annotations

import argparse

from ..evaluation.arguments import (
    add_file_arguments,
    add_gallery_arguments,
    add_model_arguments,
    evaluate_as_given,
    gallery_arguments,
    gallery_settings,
    model_from_arguments,
    print_warnings,
    save_file_result,
    with_gallery,
)
from ..evaluation.protocols.identification_tables import tinyface_table
from ..evaluation.protocols.tinyface import evaluate_tinyface
from ..evaluation.protocols.tinyface_files import ALIGNED, read_tinyface
from ..evaluation.report.results import RESULT, default_path
from ..utils.command_line import command_parser, guarded
from ..utils.outputs import check_output


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: evaluated; 1: a file cannot be written; 2: the model, the data or an argument does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    enrolled = gallery_arguments(given)
    protocol = with_gallery("tinyface", enrolled)
    check_output(given.json or default_path(given.model, protocol), RESULT, [given.model, given.gallery_model])
    images = read_tinyface(given.data, given.aligned)
    print_warnings(images.inventory.warnings)  # before the hours that the distractors may take
    model = model_from_arguments(given)
    gallery = None if enrolled is None else model_from_arguments(enrolled)
    sample = images.probes, images.probe_ids, images.matches, images.match_ids
    results, late = evaluate_as_given(given, model, images, evaluate_tinyface, sample, gallery)
    print(f"TinyFace, {given.model}{f', gallery by {given.gallery_model}' if enrolled else ''}")
    print(tinyface_table(results))
    print_warnings(late)
    warnings = [*images.inventory.warnings, *late]
    further = gallery_settings(enrolled, gallery)
    save_file_result(protocol, given, model, results, warnings, aligned=given.aligned or ALIGNED, **further)
    return 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("eval-tinyface", __doc__, front)
    add_model_arguments(parser)
    add_gallery_arguments(parser)
    parser.add_argument(
        "--data", metavar="DIR", required=True, help="folder with tinyface/Testing_Set/*.mat and the aligned images"
    )
    parser.add_argument(
        "--aligned",
        metavar="DIR",
        help=f"folder of Probe/, Gallery_Match/ and Gallery_Distractor/, in --data or anywhere (default: {ALIGNED})",
    )
    add_file_arguments(parser, "tinyface")
    return parser

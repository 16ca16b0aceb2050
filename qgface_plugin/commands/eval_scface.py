"""Evaluation on SCface: rank-1 of the surveillance cameras at three distances, and how alike probes and gallery are.

qgface eval-scface --model work_dirs/qgface_r34/model.pt --data /data/scface
qgface eval-scface --model work_dirs/qgface_r34/model.pt --data /data/scface --against work_dirs/ada/model.pt
qgface eval-scface --model model.onnx --data /data/scface --subjects test_subjects.txt --json scface80.json
qgface eval-scface --model work_dirs/fine/model.pt --gallery-model old.onnx --data /data/scface
"""

from __future__ import annotations

import argparse

from ..evaluation.arguments import (
    add_file_arguments,
    add_gallery_arguments,
    add_model_arguments,
    add_scale_arguments,
    arguments_of,
    evaluate_as_given,
    gallery_arguments,
    gallery_settings,
    model_from_arguments,
    print_warnings,
    save_file_result,
    with_gallery,
)
from ..evaluation.protocols.identification_tables import scface_table
from ..evaluation.protocols.scface import evaluate_scface, improvement, near_probes
from ..evaluation.protocols.scface_files import read_scface
from ..evaluation.report.plots import draw_similarities
from ..evaluation.report.results import RESULT, absolute, default_path
from ..utils.command_line import command_parser, guarded
from ..utils.outputs import PNG, check_output


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: evaluated; 1: a file cannot be written; 2: a model, the data or an argument does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    inputs = [given.model, given.against, given.subjects, given.gallery_model]
    enrolled = gallery_arguments(given)
    protocol = with_gallery("scface", enrolled)
    check_output(given.json or default_path(given.model, protocol), RESULT, inputs)
    check_output(given.figure, PNG, inputs)
    images = read_scface(given.data, given.subjects)
    print_warnings(images.inventory.warnings)
    models = {"model": model_from_arguments(given)}
    if (against := arguments_of(given, "against", given.against)) is not None:
        models["against"] = model_from_arguments(against)
    gallery = None if enrolled is None else model_from_arguments(enrolled)
    scores, late = {}, []
    for role, model in models.items():
        scores[role], further = evaluate_as_given(given, model, images, evaluate_scface, near_probes(images), gallery)
        late += further
    results, gain = scores["model"], None
    if given.against:
        gain = improvement(results, scores["against"])
        results = {**results, "against": {"model": absolute(given.against), **scores["against"]}, "improvement": gain}
    beside = f" against {given.against}" if given.against else ""
    print(f"SCface, {given.model}{beside}{f', gallery by {given.gallery_model}' if enrolled else ''}")
    print(scface_table(results, gain))
    late = list(dict.fromkeys(late))
    print_warnings(late)
    warnings = [*images.inventory.warnings, *late]
    saved = save_file_result(
        protocol,
        given,
        models["model"],
        results,
        warnings,
        subjects=given.subjects and absolute(given.subjects),
        **gallery_settings(enrolled, gallery),
    )
    names = {role: model.name for role, model in models.items()}
    if len(set(names.values())) < len(names):
        names = {"model": given.model, "against": given.against}
    figure = draw_similarities(given.figure or saved.with_suffix(".png"), {names[r]: scores[r] for r in scores})
    print(f"figure: {figure}")
    return 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("eval-scface", __doc__, front)
    add_model_arguments(parser)
    parser.add_argument("--against", metavar="MODEL", help="a second model, to say what the first one gains over it")
    parser.add_argument("--against-network", metavar="NAME", help="its network (default: recognised, as --network)")
    parser.add_argument("--against-color", choices=("rgb", "bgr"), default="rgb", help="its channels (default: rgb)")
    add_scale_arguments(parser, "against-")
    add_gallery_arguments(parser)
    parser.add_argument("--data", metavar="DIR", required=True, help="folder with aligned/ and all.txt")
    parser.add_argument("--subjects", metavar="FILE", help="these subjects only, one number per line (default: all)")
    parser.add_argument("--figure", metavar="FILE", help="the PNG (default: beside the results)")
    add_file_arguments(parser, "scface")
    return parser

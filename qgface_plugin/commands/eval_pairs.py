"""Verification on InsightFace's .bin pair sets: 10-fold accuracy with flip fusion, TAR@FAR, and the features' norms.

qgface eval-pairs --model work_dirs/qgface_r34/model.pt --network r34 --data /data/faces
qgface eval-pairs --model model.onnx --data /data/faces --sets lfw cfp_fp agedb_30
qgface eval-pairs --model buffalo_l --data /data/faces/lfw.bin --json lfw.json
"""

from __future__ import annotations

import argparse
import sys

from ..evaluation.arguments import add_model_arguments, model_from_arguments, model_settings
from ..evaluation.protocols.pair_sets import evaluate_pair_set, find_pair_sets
from ..evaluation.protocols.pair_tables import (
    as_results,
    norm_table,
    threshold_table,
    verification_table,
    warnings_of,
)
from ..evaluation.report.results import RESULT, default_path, write_result
from ..utils.command_line import command_parser, guarded
from ..utils.errors import DataError
from ..utils.outputs import check_output


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: evaluated; 1: a file cannot be written; 2: the model, a set or an argument does not fit.

    Sets that fit are evaluated still.
    """
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    results, failed = [], False
    paths = find_pair_sets(given.data, given.sets)
    check_output(given.json or default_path(given.model, "pairs"), RESULT, [given.model, *paths])
    model = model_from_arguments(given)
    for path in paths:
        try:
            results.append(
                evaluate_pair_set(
                    model, path, given.batch_size, given.far, given.folds, given.sample, progress=not given.quiet
                )
            )
        except DataError as error:
            failed = True
            print(f"{given.program}: {error}", file=sys.stderr)
    if results:
        print(f"{given.model}: {model.dim}-d features, {given.color.upper()} (percent; TAR: nearest / strict)")
        print(verification_table(results), threshold_table(results), norm_table(results), sep="\n\n")
        for warning in (warnings := warnings_of(results)):
            print(f"warning: {warning}")
        settings = {"network": getattr(model, "network", None), **model_settings(given, model)}
        settings |= {"flip_fusion": True, "folds": given.folds}
        saved = write_result(
            "pairs",
            data=given.data,
            model=given.model,
            settings=settings,
            results=as_results(results),
            warnings=[*warnings, *getattr(model, "warnings", ())],
            path=given.json,
        )
        print(f"saved: {saved}")
    return 2 if failed else 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("eval-pairs", __doc__, front)
    add_model_arguments(parser)
    parser.add_argument("--data", metavar="DIR", required=True, help="folder of .bin pair sets, or one of them")
    parser.add_argument("--sets", metavar="NAME", nargs="+", default=[], help="sets in the folder (default: all)")
    parser.add_argument("--folds", metavar="N", type=int, default=10, help="of the accuracy (default: 10)")
    parser.add_argument(
        "--far", metavar="FAR", type=float, nargs="+", default=[1e-3, 1e-2, 1e-1], help="(default: 0.001 0.01 0.1)"
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        type=int,
        default=128,
        help="images that are degraded to see whether their norms fall, and pairs on which the order of channels is "
        "checked; 0: neither (default: 128)",
    )
    parser.add_argument("--json", metavar="FILE", help="where results are saved (default: results/pairs.json by MODEL)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser

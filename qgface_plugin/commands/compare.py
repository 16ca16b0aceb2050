"""Comparison of two photographs: cosine, both qualities, and same, different or cannot tell.

qgface eval-pairs --model model.pt --data /data/faces --far 1e-3 1e-4              # measures thresholds
qgface compare a.jpg b.jpg --model model.pt --detector buffalo_l --far 1e-4        # decides by them
qgface compare a.png b.png --model model.onnx --thresholds pairs.json --calibration calibration.json

Exit status 0: same; 3: different; 4: cannot tell (a quality below the limit, or no threshold for that FAR).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..evaluation.arguments import add_model_arguments
from ..utils.command_line import command_parser, guarded, print_table
from ..utils.errors import ConfigError, DataError
from .embed import add_detector_arguments, calibration_of

STATUS = {"same": 0, "different": 3, "cannot tell": 4}
KEYS = ("first", "second", "cosine", "verdict", "reasons")
LIMIT = 5.0  # percent of the reference


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: same; 3: different; 4: cannot tell; 1: could not go on; 2: a photograph, the model or an argument
    does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    from ..evaluation.arguments import model_from_arguments
    from ..evaluation.decision import decide
    from ..utils.files import write_json
    from ..utils.outputs import check_output, json_with

    check_output(given.json, json_with(KEYS, "comparison"), [given.first, given.second, given.model, given.thresholds])
    for name in ("first", "second"):
        if not Path(getattr(given, name)).is_file():
            raise DataError(f"{getattr(given, name)}: no such photograph")
    model = model_from_arguments(given)
    calibration = calibration_of(given.calibration, model, given)
    if given.min_quality is not None and calibration is None:
        raise ConfigError("--min-quality is percent of a reference: name a --calibration, or give --min-norm")
    origin, warnings = _threshold(given)
    found = model.embed_files(
        [given.first, given.second], given.detector, flip=not given.no_flip, batch_size=2, calibration=calibration,
        threshold=given.threshold,
    )  # fmt: skip
    cosine, names = found.cosine(0, 1), _names(given)
    if given.min_norm is not None or found.quality is None:
        decision = decide(cosine, origin, _by(names, found.norms), given.min_norm)
    else:
        limit = LIMIT if given.min_quality is None else given.min_quality
        decision = decide(cosine, origin, _by(names, found.quality), limit, " %")
    rows: dict[str, object] = {"cosine": f"{cosine:.4f}"}
    for row, name in enumerate(names):
        words = f", {calibration.words(float(found.norms[row]))}" if calibration else ""
        several = f"; {found.faces[row]} faces, the largest is compared" if found.faces[row] > 1 else ""
        rows[f"quality of {name}"] = f"norm {found.norms[row]:.2f}{words}{several}"
    rows["threshold"] = origin.words if origin else "none"
    rows["flip fusion"] = "no" if given.no_flip else "yes"
    rows["verdict"] = decision.verdict
    print_table(rows)
    for reason in decision.reasons:
        print(f"because {reason}")
    warnings += list(getattr(model, "warnings", ()))
    for warning in warnings:
        print(f"{given.program}: warning: {warning}", file=sys.stderr)
    if given.json:
        sides = [
            {
                "path": path,
                "norm": float(found.norms[row]),
                "quality": None if found.quality is None else float(found.quality[row]),
                "faces": int(found.faces[row]),
            }
            for row, path in enumerate((given.first, given.second))
        ]
        result = {"first": sides[0], "second": sides[1], "cosine": cosine, "verdict": decision.verdict}
        result |= {"reasons": list(decision.reasons), "threshold": asdict(origin) if origin else None}
        result |= {"flip_fusion": not given.no_flip, "model_sha256": given.sha256, "warnings": warnings}
        write_json(given.json, result)
    return STATUS[decision.verdict]


def _threshold(given: argparse.Namespace) -> tuple[Any, list[str]]:
    """The threshold that the arguments name, or that stands beside the model; and warnings."""
    from ..evaluation.decision import threshold_in
    from ..evaluation.report.results import default_path

    path = given.thresholds or default_path(given.model, "pairs")
    if not given.thresholds and not path.is_file():
        return None, []
    origin, result = threshold_in(path, given.far, not given.no_flip, given.set)
    measured = result.settings.get("sha256")
    if measured == given.sha256:
        return origin, []
    if not given.thresholds:
        raise DataError(
            f"{path} was measured on another model: evaluate this one again, or name results by --thresholds"
        )
    return origin, [f"{path} was measured on another file than {given.model}: right only if both are the same encoder"]


def _names(given: argparse.Namespace) -> list[str]:
    """Short names, different ones where the photographs are."""
    names = [Path(given.first).name, Path(given.second).name]
    return names if names[0] != names[1] else [given.first, given.second]


def _by(names: list[str], qualities: Any) -> dict[str, float]:
    return {name: float(quality) for name, quality in zip(names, qualities, strict=True)}


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("compare", __doc__, front)
    parser.add_argument("first", metavar="A", help="a photograph, or an aligned face of 112 x 112")
    parser.add_argument("second", metavar="B", help="another one")
    add_model_arguments(parser)
    add_detector_arguments(parser)
    group = parser.add_argument_group("decision")
    group.add_argument("--far", metavar="FAR", type=float, default=1e-4, help="of the threshold [%(default)s]")
    group.add_argument(
        "--thresholds",
        metavar="RESULTS",
        type=Path,
        help="JSON of eval-pairs of this model (default: results/pairs.json by MODEL, where eval-pairs saves it)",
    )
    group.add_argument("--set", metavar="NAME", help="of these results (default: the one with most impostor pairs)")
    group.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="of this model's norms, by eval-quality --calibrate (default: what the ONNX file carries, if any)",
    )
    limit = group.add_mutually_exclusive_group()
    limit.add_argument(
        "--min-quality",
        metavar="P",
        type=float,
        help=f"percent of the calibration's reference below which nothing can be told [{LIMIT:g}]",
    )
    limit.add_argument("--min-norm", metavar="N", type=float, help="the same as a norm (default: no limit)")
    group.add_argument("--no-flip", action="store_true", help="features of the images alone, without mirror images")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything for programs too")
    return parser

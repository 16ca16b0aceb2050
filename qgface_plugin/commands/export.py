"""Export of a trained encoder as ONNX, for insightface.model_zoo, FaceAnalysis and every other ONNX runtime.

qgface export --model work_dirs/qgface_r34/model.pt -o qgface_r34.onnx
qgface export --model model.pt --network r50 -o r50.onnx --images aligned_faces
qgface export --model model.pt -o model.onnx --calibration calibration.json
qgface export --model model.pt --package my_model --detector det_10g.onnx --license LICENCE.txt
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.arguments import add_import_argument, import_from_arguments
from ..utils.command_line import command_parser, guarded, print_table
from ..utils.errors import ConfigError
from ..utils.files import write_json
from ..utils.outputs import ONNX, check_output, report_of
from ..utils.text import read_text

if TYPE_CHECKING:
    from ..models.onnx_precision import Cost
    from ..models.zoo_package import Package


ALIKE = 0.99  # cosine of features in two precisions, below which they are two models


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: written and compared; 1: failed while writing; 2: the model or an argument does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    from ..models import load_model
    from ..models.digest import model_digest
    from ..models.onnx_export import ExportReport, export_onnx, sample_faces
    from ..models.onnx_precision import lower_precision
    from ..models.quality_calibration import QualityCalibration
    from ..models.torch_model import TorchModel
    from ..models.zoo_package import RECOGNITION, finish_package

    import_from_arguments(given)
    real = sample_faces(given.images) if given.images else None
    model = load_model(given.model, network=given.network, device="cpu")
    if not isinstance(model, TorchModel):
        raise ConfigError(f"{given.model} is ONNX already: give the model.pt that it was made of")
    package = _package(given, model.name)
    output = given.output if package is None else given.package / RECOGNITION
    check_output(output, ONNX, [given.model, given.images])
    check_output(given.json, report_of(ExportReport), [given.model, given.images, output])
    if given.calibration:
        calibration = QualityCalibration.load(given.calibration)
        calibration.check_model(model_digest(given.model), given.model)
    metadata = {"recipe": given.name or model.name, "network": model.network, "source": Path(given.model).name}
    metadata |= calibration.as_metadata() if given.calibration else {}
    report = export_onnx(model.backbone, output, metadata, real, given.opset)
    cost = lower_precision(output, given.precision, real) if given.precision != "float32" else None
    if package is not None:
        manifest = finish_package(given.package, package, report.embedding_size)
    embedded = package is not None and package.embedded
    print_table(
        {
            "written": report.file if package is None else given.package,
            **({"tasks": ", ".join(manifest["tasks"])} if package else {}),
            "network": model.network,
            "megabytes": f"{(cost.bytes if cost else report.bytes) / 1e6:.1f}",
            **({f"in {cost.precision}": _words(cost)} if cost else {}),
            "input": "data, N x 3 x 112 x 112 uint8 RGB, 0 to 255"
            if embedded
            else "data, N x 3 x 112 x 112 float32 RGB, (x - 127.5) / 127.5 outside",
            "output": f"embedding, N x {report.embedding_size} float32",
            "opset": report.opset,
            **{
                f"{row.batch} {row.images} images": f"differs from PyTorch by {row.difference:.1e} at unit length "
                f"({row.absolute:.1e} as it is)"
                for row in report.comparisons
            },
        }
    )
    if cost is not None and cost.lowest_cosine < ALIKE:
        print(
            f"{given.program}: warning: features in {cost.precision} are not those of float32 (cosine "
            f"{cost.lowest_cosine:.3f}): evaluate this file before it is used, and compare nothing with features of "
            "the other",
            file=sys.stderr,
        )
    if given.json:
        write_json(given.json, {**asdict(report), "precision": asdict(cost) if cost else None})
    return 0


def _words(cost: Cost) -> str:
    return (
        f"{cost.images} {cost.kind} images have cosines of {cost.lowest_cosine:.4f} at least (median "
        f"{cost.median_cosine:.5f}) with float32, norms {cost.norm_ratio:.3f} times as large"
    )


def _package(given: argparse.Namespace, name: str) -> Package | None:
    """The package that the arguments ask for, checked."""
    from ..models.zoo_package import NOT_STATED, Package, check_package

    if (given.output is None) == (given.package is None):
        raise ConfigError("-o FILE names the .onnx to write, or --package DIR a folder for InsightFace: one of them")
    if given.package is None:
        for flag in ("detector", "license", "uint8"):
            if getattr(given, flag):
                raise ConfigError(f"--{flag} is for a --package")
        return None
    licence = read_text(given.license, "licence") if given.license else NOT_STATED
    package = Package(given.name or name, licence, given.detector, given.uint8)
    check_package(given.package, package)
    if not given.license:
        print(
            f"{given.program}: warning: no --license: the package says that its licence was not stated", file=sys.stderr
        )
    return package


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("export", __doc__, front)
    parser.add_argument(
        "--model",
        metavar="FILE",
        required=True,
        help="model.pt or checkpoint_gpu_0.pt, or its folder",
    )
    parser.add_argument("--network", metavar="NAME", help="such as r34 [what recipe.json says, else recognised]")
    add_import_argument(parser)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the .onnx to write")
    group = parser.add_argument_group("a package of InsightFace 2.1")
    group.add_argument("--package", metavar="DIR", type=Path, help="write manifest.json, model and licence to a folder")
    group.add_argument("--detector", metavar="FILE", type=Path, help="InsightFace's, to put in, such as det_10g.onnx")
    group.add_argument("--license", metavar="FILE", type=Path, help="of the weights, a text")
    group.add_argument(
        "--uint8", action="store_true", help="the graph takes pixels as bytes and normalises them itself"
    )
    parser.add_argument("--images", metavar="PATH", type=Path, help="compare on faces too: a folder of them, or a .bin")
    parser.add_argument("--name", metavar="TEXT", help="recipe's name in the file's metadata [the run's folder]")
    parser.add_argument(
        "--calibration", metavar="FILE", type=Path, help="of this model's norms, as eval-quality --calibrate writes it"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the weights; input and output stay float32. What it does to features is printed: give --images "
        "[%(default)s]",
    )
    parser.add_argument("--opset", metavar="N", type=int, default=11, help="version of ONNX's operators [%(default)s]")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything for programs too")
    return parser

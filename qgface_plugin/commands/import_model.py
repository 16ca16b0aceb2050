"""Import of an ONNX encoder as PyTorch weights that can be trained: model.pt with arcface_torch's parameter names.

qgface import ~/.insightface/models/buffalo_l/w600k_r50.onnx -o w600k_r50.pt
qgface import buffalo_l -o w600k_r50.pt
qgface import vendor.onnx --color bgr --mean 127.5 --std 128 -o vendor.pt

IResNet (r18 to r200) and MobileFaceNet (mbf, mbf_large) are recognised, however their nodes are called; any other
graph of usual operations keeps its graph, which is then in model.pt too. The embeddings are compared with onnxruntime's
before anything is written. `config.init_from` of a recipe takes the ONNX file itself just as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.command_line import command_parser, guarded, print_table
from ..utils.errors import ConfigError
from ..utils.files import write_json
from ..utils.outputs import WEIGHTS, check_output, json_with

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE = 512  # faces
REPORT = ("written", "source", "network", "embedding_size", "parameters", "difference")


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: written and compared; 1: failed while writing; 2: the model or an argument does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    from ..models.batchnorm import folded_norms, unfold_batchnorm
    from ..models.face_model import Scale
    from ..models.trainable import is_pytorch, load_trainable
    from ..models.weights import export_backbone

    if is_pytorch(given.model):
        raise ConfigError(f"{given.model} is PyTorch weights already: config.init_from takes it as it is")
    if (given.mean is None) != (given.std is None):
        raise ConfigError(f"--{'mean' if given.std is None else 'std'} is given alone: --mean and --std go together")
    if given.output.suffix not in WEIGHTS.suffixes:
        raise ConfigError(f"{given.output}: the name of PyTorch weights ends in .pt")
    scale = None if given.mean is None else Scale.of(given.mean, given.std)
    inputs = [given.model] if Path(given.model).is_file() else []
    check_output(given.output, WEIGHTS, inputs)
    check_output(given.json, json_with(REPORT, "report"), [*inputs, given.output])
    found = load_trainable(given.model, color=given.color, scale=scale, keep_graph=given.graph)
    backbone = found.backbone
    if given.images:
        backbone = unfold_batchnorm(backbone, _batches(given.images), None if given.quiet else "BatchNorm")
    export_backbone(given.output, backbone.state_dict())
    report: dict[str, Any] = {
        "written": str(given.output),
        "source": str(found.source),
        "network": found.network,
        "embedding_size": found.size,
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "difference": found.difference,
        "folded_batchnorms": len(folded_norms(backbone)),
        "notes": list(found.notes),
    }
    print_table(
        {
            "written": report["written"],
            "from": report["source"],
            "network": found.network,
            "embedding": f"{found.size} numbers, not normalised",
            "parameters": f"{report['parameters'] / 1e6:.2f} million",
            "input": "RGB in [-1, 1]: (x - 127.5) / 127.5",
            "onnxruntime": f"differs by {found.difference:.1e} of a feature's norm at most",
            "BatchNorm": _of_batchnorm(report["folded_batchnorms"], given.images),
            **{f"note {i}": note for i, note in enumerate(found.notes, 1)},
        }
    )
    if given.json:
        write_json(given.json, report)
    return 0


def _batches(images: Path) -> Iterator[Tensor]:
    """Faces of a folder or a .bin, in batches as networks take them."""
    import torch

    from ..data.pair_batch import normalise
    from ..models.onnx_export import sample_faces

    faces = torch.from_numpy(sample_faces(images, SAMPLE)).permute(0, 3, 1, 2)
    for batch in faces.split(32):
        yield normalise(batch)


def _of_batchnorm(count: int, images: Path | None) -> str:
    if images:
        return f"those that were folded away have statistics of {images}"
    if not count:
        return "as the file has it"
    return f"{count} were folded away: a run that trains them gives them statistics of its images first"


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("import", __doc__, front)
    parser.add_argument(
        "model", metavar="MODEL", help="an ONNX file, a pack (folder), or its name in ~/.insightface/models"
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the model.pt to write")
    parser.add_argument(
        "--color", choices=("rgb", "bgr"), default="rgb", help="channels that the model takes [%(default)s]"
    )
    parser.add_argument(
        "--mean",
        metavar="M",
        type=float,
        nargs="+",
        help="what is subtracted from pixels of 0 to 255, one number or three [what the graph or the pack says]",
    )
    parser.add_argument("--std", metavar="S", type=float, nargs="+", help="what they are then divided by")
    parser.add_argument(
        "--images",
        metavar="PATH",
        type=Path,
        help="aligned faces, a folder or a .bin, whose statistics BatchNorms get that were folded away",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--graph", action="store_true", help="keep the graph also where the network is known")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything for programs too")
    return parser

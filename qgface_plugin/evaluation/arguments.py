"""The arguments by which evaluations of image folders say how files are read and where results go."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models.face_model import COLORS, FaceModel
from ..models.loading import load_model
from .embed_files import ON_CORRUPT
from .report.results import write_result


def add_file_arguments(parser: argparse.ArgumentParser, protocol: str) -> None:
    """--no-flip, --workers, --on-corrupt, --sample, --json and --quiet."""
    parser.add_argument("--no-flip", action="store_true", help="features of the images alone, without mirror images")
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads that decode (default: 4)")
    parser.add_argument(
        "--on-corrupt", choices=ON_CORRUPT, default="error", help="an image that cannot be decoded (default: error)"
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        type=int,
        default=128,
        help="pairs on which the order of channels is checked; 0: no check (default: 128)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help=f"where results are saved (default: results/{protocol}.json by MODEL)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def file_options(given: argparse.Namespace, progress: str) -> dict[str, Any]:
    """The keyword arguments of `embed_files` that the arguments say; `progress` labels its bar."""
    return {
        "flip": not given.no_flip,
        "batch_size": given.batch_size,
        "workers": given.workers,
        "on_corrupt": given.on_corrupt,
        "progress": None if given.quiet else progress,
    }


def save_file_result(
    protocol: str,
    given: argparse.Namespace,
    model: FaceModel,
    results: Mapping[str, Any],
    warnings: Sequence[str],
    **settings: Any,
) -> Path:
    """Save what `model` scored where the arguments say, with them and further `settings`; the place is printed."""
    settings = {"name": model.name, "dim": model.dim, "color": given.color, **settings}
    settings |= {"flip_fusion": not given.no_flip, "on_corrupt": given.on_corrupt}
    saved = write_result(
        protocol,
        data=given.data,
        model=given.model,
        settings=settings,
        results=results,
        warnings=warnings,
        path=given.json,
    )
    print(f"saved: {saved}")
    return saved


# --- The arguments by which every evaluation tool takes its model -----------------------------------------------------


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --network, --color, --device and --batch-size."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="MODEL",
        required=True,
        help="model.pt or checkpoint_gpu_0.pt (this project's or arcface_torch's), an .onnx file, a folder of either, "
        "or the name of a pack in ~/.insightface/models, such as buffalo_l",
    )
    group.add_argument(
        "--network",
        metavar="NAME",
        help="network of a .pt file: r18, r34, r50, r100, r200, mbf, mbf_large, quick, small, or vit_* with "
        "ARCFACE_TORCH set (default: what recipe.json beside it says, else recognised by its parameters)",
    )
    group.add_argument(
        "--color", choices=COLORS, default="rgb", help="order of channels that the model was trained on (default: rgb)"
    )
    group.add_argument("--device", metavar="DEVICE", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    group.add_argument("--batch-size", metavar="N", type=int, default=64, help="images at a time (default: 64)")


def model_from_arguments(arguments: argparse.Namespace) -> FaceModel:
    """The model that the arguments of `add_model_arguments` name. Raises as `load_model`."""
    return load_model(arguments.model, network=arguments.network, color=arguments.color, device=arguments.device)

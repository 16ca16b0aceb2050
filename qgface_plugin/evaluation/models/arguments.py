"""The arguments by which every evaluation tool takes its model."""

from __future__ import annotations

import argparse

from .face_model import COLORS, FaceModel
from .loading import load_model


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

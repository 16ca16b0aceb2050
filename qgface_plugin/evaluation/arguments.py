"""Command-line arguments of the evaluation tools: the model, how files are read, and where results go."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models.digest import model_digest
from ..models.face_model import COLORS, USUAL, FaceModel
from ..utils.command_line import add_on_corrupt
from ..utils.errors import DataError
from .color_order import check_color_of_files
from .report.results import absolute, write_result

if TYPE_CHECKING:
    from ..models.onnx_model import OnnxModel
    from ..models.torch_model import TorchModel


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --network, --color, --mean, --std, --device and --batch-size."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="MODEL",
        required=True,
        help="model.pt, a checkpoint (this project's, arcface_torch's, another trainer's), an .onnx file, a folder of "
        "either, or the name of a pack in ~/.insightface/models, such as buffalo_l",
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
    add_scale_arguments(group)
    add_import_argument(group)
    group.add_argument("--device", metavar="DEVICE", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    group.add_argument("--batch-size", metavar="N", type=int, default=64, help="images at a time (default: 64)")


def add_scale_arguments(group: argparse._ActionsContainer, prefix: str = "") -> None:
    """Add --mean and --std, or --<prefix>mean and --<prefix>std."""
    group.add_argument(
        f"--{prefix}mean",
        metavar="M",
        type=float,
        nargs="+",
        help="what is subtracted from pixels of 0 to 255, one number or three by channel (default: 127.5, or what an "
        "ONNX graph that normalises them itself leaves to do)",
    )
    group.add_argument(f"--{prefix}std", metavar="S", type=float, nargs="+", help="what they are then divided by")


def add_import_argument(group: argparse._ActionsContainer) -> None:
    """Add --import."""
    group.add_argument(
        "--import",
        dest="imports",
        metavar="FILE",
        nargs="+",
        default=[],
        help="files that define a network of your own (default: those that recipe.json beside the model names)",
    )


def import_from_arguments(given: argparse.Namespace) -> None:
    """Run the files that --import names.

    Raises:
        ConfigError: one is not there, or fails.
    """
    from ..config.recipe import import_parts

    for file in given.imports:
        import_parts(file)


def model_from_arguments(given: argparse.Namespace) -> OnnxModel | TorchModel:
    """The model that the arguments of `add_model_arguments` name. Raises as `load_model`."""
    from ..models import load_model  # PyTorch, for which --help does not wait

    import_from_arguments(given)
    note_digest(given)
    return load_model(
        given.model,
        network=given.network,
        color=given.color,
        device=given.device,
        mean=given.mean,
        std=given.std,
    )


def add_gallery_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --gallery-model, and how to read it: --gallery-network, --gallery-color, --gallery-mean, --gallery-std."""
    group = parser.add_argument_group("gallery's model")
    group.add_argument(
        "--gallery-model",
        metavar="OLD",
        help="the model that the gallery was enrolled with: the gallery is embedded by it and the probes by MODEL, as "
        "after an exchange of the encoder (default: both by MODEL)",
    )
    group.add_argument("--gallery-network", metavar="NAME", help="its network (default: recognised, as --network)")
    group.add_argument("--gallery-color", choices=COLORS, default="rgb", help="its channels (default: rgb)")
    add_scale_arguments(group, "gallery-")


def gallery_arguments(given: argparse.Namespace) -> argparse.Namespace | None:
    """The arguments with the gallery's model in the place of the model; None without --gallery-model.

    Example:
        >>> given = argparse.Namespace(model="new.pt", gallery_model=None)
        >>> gallery_arguments(given) is None
        True
    """
    return arguments_of(given, "gallery", given.gallery_model)


def arguments_of(given: argparse.Namespace, role: str, model: str | None) -> argparse.Namespace | None:
    """The arguments with a second model in the place of the model: its name, and how `--<role>-...` say to read it.

    Example:
        >>> given = argparse.Namespace(model="new.pt", color="rgb", against="old.pt", against_color="bgr")
        >>> second = arguments_of(given, "against", given.against)
        >>> second.model, second.color
        ('old.pt', 'bgr')
    """
    if model is None:
        return None
    prefix = f"{role}_"
    own = {name.removeprefix(prefix): value for name, value in vars(given).items() if name.startswith(prefix)}
    return argparse.Namespace(**{**vars(given), **own, "model": model})


def gallery_settings(enrolled: argparse.Namespace | None, model: FaceModel | None = None) -> dict[str, Any]:
    """What results keep of the gallery's model, as `gallery_model`; nothing where there is none.

    Args:
        enrolled: of `gallery_arguments`, the digest noted.
        model: what they name, when it was loaded.
    """
    if enrolled is None:
        return {}
    known: dict[str, Any] = {"sha256": getattr(enrolled, "sha256", None), "color": enrolled.color}
    known |= {} if model is None else model_settings(enrolled, model)
    return {"gallery_model": {"model": absolute(enrolled.model), "network": enrolled.network, **known}}


def with_gallery(protocol: str, enrolled: argparse.Namespace | None) -> str:
    """The protocol's name; with the gallery of another model it is another protocol, whose file replaces nothing.

    Example:
        >>> with_gallery("scface", None)
        'scface'
    """
    return protocol if enrolled is None else f"{protocol}_gallery"


def note_digest(given: argparse.Namespace) -> None:
    """Note the digest of the model's files in the arguments, for results; before it is loaded."""
    given.sha256 = None
    with contextlib.suppress(DataError):  # `load_model` has the words for it
        given.sha256 = model_digest(given.model)


def model_settings(given: argparse.Namespace, model: FaceModel) -> dict[str, Any]:
    """What results keep of the model beside its path: digest, name, d, order of channels, what is done to pixels."""
    scale = getattr(model, "scale", USUAL)
    return {
        "sha256": getattr(given, "sha256", None),
        "name": model.name,
        "dim": model.dim,
        "color": given.color,
        "mean": list(scale.mean),
        "std": list(scale.std),
    }


def add_file_arguments(parser: argparse.ArgumentParser, protocol: str) -> None:
    """Add --no-flip, --workers, --on-corrupt, --sample, --json and --quiet."""
    parser.add_argument("--no-flip", action="store_true", help="features of the images alone, without mirror images")
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads that decode (default: 4)")
    add_on_corrupt(parser)
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


def evaluate_as_given(
    given: argparse.Namespace,
    model: FaceModel,
    images: Any,
    evaluate: Callable[..., tuple[dict[str, Any], list[str]]],
    sample: tuple[Sequence[Path], np.ndarray, Sequence[Path], np.ndarray],
    gallery_model: FaceModel | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate a model on a set of files as the arguments of `add_file_arguments` say, and check its channels' order.

    Args:
        given: the arguments.
        model: the encoder.
        images: the set.
        evaluate: the protocol, such as `evaluate_scface`.
        sample: probes, their identities, gallery and its identities, on which the order of channels is checked.
        gallery_model: embeds the gallery; None: `model` does.

    Returns:
        The results and the warnings.

    Raises:
        DataError: as `evaluate`.
    """
    results, warnings = evaluate(
        model,
        images,
        gallery_model=gallery_model,
        flip=not given.no_flip,
        batch_size=given.batch_size,
        workers=given.workers,
        on_corrupt=given.on_corrupt,
        progress=None if given.quiet else model.name,
    )
    for one in [model] if gallery_model is None else [model, gallery_model]:
        order = check_color_of_files(one, *sample, given.sample, given.batch_size)
        warnings = [*warnings, *([f"{one.name}: {order.warning}"] if order and order.warning else [])]
    return results, warnings


def print_warnings(warnings: Sequence[str]) -> None:
    """Print each warning on a line of its own."""
    for warning in warnings:
        print(f"warning: {warning}")


def save_file_result(
    protocol: str,
    given: argparse.Namespace,
    model: FaceModel,
    results: Mapping[str, Any],
    warnings: Sequence[str],
    **settings: Any,
) -> Path:
    """Save what `model` scored where the arguments say, with them and further `settings`; print and return where."""
    settings = {**model_settings(given, model), **settings}
    settings |= {"flip_fusion": not given.no_flip, "on_corrupt": given.on_corrupt}
    saved = write_result(
        protocol,
        data=given.data,
        model=given.model,
        settings=settings,
        results=results,
        warnings=[*warnings, *getattr(model, "warnings", ())],
        path=given.json,
    )
    print(f"saved: {saved}")
    return saved
